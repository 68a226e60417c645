package faults

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// leading stands for the node that leads when a step begins.
const leading = -1

// step is one fault of a schedule.
type step struct {
	fault  fault
	target int // a node, or leading
	// hold is how long it goes on, rest how long the cluster has after it.
	hold, rest time.Duration
	// salt is for what else the fault draws.
	salt uint64
}

func (s step) String() string {
	target := "the leader"
	if s.target != leading {
		target = nodeID(s.target)
	}
	return fmt.Sprintf("%s, %s, for %s", s.fault.name, target, s.hold.Round(time.Millisecond))
}

// schedule draws the order, the targets and the times of all faults; it
// depends on nothing but its arguments.
func schedule(seed uint64, round int, faults []fault) []step {
	r := rand.New(rand.NewPCG(seed, uint64(round)))
	var steps []step
	for _, i := range r.Perm(len(faults)) {
		target := leading
		if n := r.IntN(2 * size); n < size {
			target = n
		}
		steps = append(steps, step{
			fault: faults[i], target: target, salt: r.Uint64(),
			hold: 500*time.Millisecond + upTo(r, 3*time.Second), rest: upTo(r, time.Second),
		})
	}
	return steps
}

func TestScheduleIsRepeated(t *testing.T) {
	text := func(seed uint64, round int) string { return fmt.Sprint(schedule(seed, round, nodeFaults())) }
	if once, again := text(1, 0), text(1, 0); once != again {
		t.Error("one seed, two schedules")
	}
	if text(1, 0) == text(2, 0) || text(1, 0) == text(1, 1) {
		t.Error("other seeds or rounds, the same schedule")
	}
	var names []string
	for _, s := range schedule(1, 0, nodeFaults()) {
		names = append(names, s.fault.name)
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) != len(nodeFaults()) {
		t.Errorf("a round has %d faults of %d", len(names), len(nodeFaults()))
	}
}

// upTo draws a time below d.
func upTo(r *rand.Rand, d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d))) }
