package cluster

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// simPlan is what the seed decides.
type simPlan struct {
	hosts, founders int
	timers          Timers
	steps           []simStep
	// What TestSimulationFinds breaks.
	forgets   string
	freshKeys bool
}

// simStep is one fault of a schedule; it begins some time after the one before.
type simStep struct {
	fault  simFault
	target int // a host; simLeader: the leader
	after  time.Duration
	hold   time.Duration
	salt   uint64
}

const simLeader = -1

func (p simStep) String() string {
	return fmt.Sprintf("%s of %d for %s, %s after the one before", p.fault.name, p.target, p.hold, p.after)
}

// planOf draws a plan; it depends on nothing but the seed.
func planOf(seed uint64) simPlan {
	r := rand.New(rand.NewPCG(seed, 1))
	upTo := func(d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d))) }
	// Commit is what an idle leader sends most for.
	p := simPlan{hosts: 3, founders: 3, timers: Timers{Commit: 150 * time.Millisecond}}
	switch r.IntN(5) {
	case 0:
		p.hosts = 4
	case 1:
		p.hosts, p.founders = 5, 5
	}
	if r.IntN(2) == 0 {
		p.timers.SnapshotInterval, p.timers.SnapshotThreshold, p.timers.TrailingLogs = 2*time.Second, 10, 4
	}
	faults := simFaults()
	for range 4 + r.IntN(5) {
		step := simStep{
			fault: faults[r.IntN(len(faults))], target: r.IntN(p.hosts), after: upTo(3 * time.Second), hold: 100*time.Millisecond + upTo(2*time.Second),
			salt: r.Uint64(),
		}
		if r.IntN(2) == 0 { // long enough for those who wait for seconds
			step.hold += upTo(7 * time.Second)
		}
		if r.IntN(2) == 0 {
			step.target = simLeader
		}
		p.steps = append(p.steps, step)
	}
	return p
}
