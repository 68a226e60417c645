package cluster

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestSimulationFinds breaks what the nodes rely on, or what clients must do,
// in a way that only few schedules bring to light, and wants it to be found.
//
// As TestSimulation it does not run beside clusters in real time, whose timers it
// would starve.
func TestSimulationFinds(t *testing.T) {
	for name, broken := range map[string]func(p *simPlan, seed uint64){
		"a disk that loses a synced vote": func(p *simPlan, seed uint64) {
			p.forgets = "vote"
			p.elections(seed)
		},
		"a disk that loses synced entries": func(p *simPlan, _ uint64) { p.forgets = "log" },
		"a retry under another key":        func(p *simPlan, _ uint64) { p.freshKeys = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range simEnv(t, "CLUSTER_SIM_FINDS", 2000) {
				plan := planOf(seed)
				broken(&plan, seed)
				if err := simulate(t, seed, plan, t.TempDir()); err != nil {
					t.Logf("schedule %d: %v", seed, err)
					return
				}
			}
			t.Error("not found")
		})
	}
}

// elections makes a schedule of many: votes are long under way, and who has
// given one crashes.
func (p *simPlan) elections(seed uint64) {
	r := rand.New(rand.NewPCG(seed, 3))
	p.hosts, p.founders, p.steps = 3, 3, nil
	for i := range 3 {
		p.steps = append(p.steps, simStep{fault: faultNamed("slow network"), target: i, hold: 12 * time.Second})
	}
	for range 40 {
		p.steps = append(p.steps, simStep{
			fault: faultNamed("crash"), target: r.IntN(3), after: time.Duration(r.Int64N(int64(400 * time.Millisecond))), hold: 5 * time.Millisecond,
		})
	}
}

func faultNamed(name string) simFault {
	all := simFaults()
	return all[slices.IndexFunc(all, func(f simFault) bool { return f.name == name })]
}
