package cluster

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// settled waits until the leader's last command is committed on every disk.
func settled(t *testing.T, sites []*site, index uint64) {
	t.Helper()
	for _, s := range sites {
		eventually(t, 5*time.Second, s.cfg.NodeID+" has the commit index on disk", func() bool {
			at, err := s.node.rt.Load().stores.Committed()
			return err == nil && at >= index
		})
	}
}

// A node that is started alone has the last state that was committed, and
// never an entry that is in its own log only.
func TestStaleStateIsTheLastCommittedOne(t *testing.T) {
	t.Parallel()
	w := newNetwork()
	seen := make([]*recorder, 3)
	sites := newSites(t, 3, func(i int, c *Config, d *Deps) {
		seen[i] = &recorder{}
		d.Observers = []Observer{seen[i]}
		w.plug(i, c, d)
	})
	upAll(sites)
	awaitReady(t, sites...)
	for i := range 200 {
		propose(t, sites[i%3].node, fmt.Sprintf("t%d", i))
	}
	last := propose(t, sites[0].node, "last").Index
	settled(t, sites, last)

	alone := leader(t, sites)
	w.split(at(sites, alone))
	r := alone.node.rt.Load().raft
	before := r.LastIndex()
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	if _, err := alone.node.Propose(ctx, putTenant("uncommitted")); err == nil {
		t.Fatal("a leader without the others committed a write")
	}
	cancel()
	if r.LastIndex() == before {
		t.Fatal("the write is not in the log")
	}
	for _, s := range sites {
		s.kill()
	}

	seen[at(sites, alone)].forget()
	alone.cfg.StaleAfter = time.Millisecond
	n := alone.up()
	eventually(t, 10*time.Second, "it is stale", n.Stale)
	if n.State().Index() != last || !hasTenant(n, "t199") || hasTenant(n, "uncommitted") || n.Ready() {
		t.Errorf("the state is that of %d, the last committed is %d; ready %t", n.State().Index(), last, n.Ready())
	}
	if report, err := n.Report(t.Context()); err != nil || len(report.Nodes) != 3 || !report.Nodes[at(sites, alone)].Stale {
		t.Errorf("the report does not say stale: %v, %v", report, err)
	}
	if n.rt.Load().raft.Snapshot().Error() == nil {
		t.Error("a snapshot of more than Raft has applied")
	}

	w.heal()
	for _, s := range sites {
		if s != alone {
			s.up()
		}
	}
	awaitReady(t, sites...)
	after := propose(t, sites[0].node, "after")
	for _, s := range sites {
		_, err := s.node.WaitApplied(t.Context(), after.Index)
		must(t, err)
	}
	if n.Stale() {
		t.Error("still stale")
	}
	want, err := others(sites, alone)[0].node.State().Hash()
	must(t, err)
	if got, err := n.State().Hash(); err != nil || got != want {
		t.Errorf("the state differs from the others': %x, %x, %v", got, want, err)
	}
	events, _ := seen[at(sites, alone)].seen()
	for i := 1; i < len(events); i++ {
		if events[i].Seq != events[i-1].Seq+1 {
			t.Fatalf("event %d follows event %d", events[i].Seq, events[i-1].Seq)
		}
	}
	must(t, n.rt.Load().raft.Snapshot().Error())
}

// forget drops what was seen.
func (r *recorder) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events, r.resets = nil, 0
}

// A node that never belonged to a cluster has nothing to serve.
func TestNodeWithoutAClusterIsNotStale(t *testing.T) {
	t.Parallel()
	s := newSites(t, 3, func(_ int, c *Config, _ *Deps) { c.StaleAfter = time.Millisecond })[0]
	n := s.up()
	eventually(t, 5*time.Second, "it looks for the others", func() bool { return n.waitsFor.Load() != nil })
	must(t, n.becomeStale(t.Context()))
	if n.Stale() {
		t.Error("stale, without a state")
	}
}

// A leader that is elected right after a command, and begins its term without
// knowing that it was committed, still has it settle.
func TestSettlesUnderTheNextLeader(t *testing.T) {
	t.Parallel()
	w := newNetwork()
	sites := newSites(t, 3, w.plug)
	upAll(sites)
	awaitReady(t, sites...)
	for round := range 3 {
		old := leader(t, sites)
		last := propose(t, old.node, fmt.Sprintf("last-%d", round)).Index
		w.freeze(at(sites, old), true)
		leader(t, others(sites, old))
		w.freeze(at(sites, old), false)
		settled(t, sites, last)
	}
}
