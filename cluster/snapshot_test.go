package cluster

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// The log is compacted by snapshots; a node that is behind the log, and one
// with an empty disk, are brought up by a snapshot.
func TestSnapshotsCompactTheLog(t *testing.T) {
	t.Parallel()
	recorders := make([]*recorder, 3)
	sites := newSites(t, 3, func(i int, c *Config, d *Deps) {
		recorders[i] = &recorder{}
		d.Observers = []Observer{recorders[i]}
		c.SnapshotInterval, c.SnapshotThreshold, c.TrailingLogs = 50*time.Millisecond, 64, 16
	})
	upAll(sites)
	awaitReady(t, sites...)
	lead := leader(t, sites)
	rest := others(sites, lead)
	lagging, wiped := rest[0], rest[1]
	lagging.kill()
	for i := range 400 {
		propose(t, lead.node, fmt.Sprintf("t%d", i))
	}
	first := func(n *Node) uint64 {
		index, err := n.rt.Load().stores.Log.FirstIndex()
		must(t, err)
		return index
	}
	eventually(t, 5*time.Second, "the log is compacted", func() bool { return first(lead.node) > 300 })

	lagging.up()
	awaitReady(t, lagging)
	if !hasTenant(lagging.node, "t399") {
		t.Error("the lagging node misses a write")
	}
	if _, resets := recorders[at(sites, lagging)].seen(); resets < 1 {
		t.Error("its observer was not told that everything may have changed")
	}
	wiped.kill()
	wiped.wipe()
	wiped.up()
	awaitReady(t, wiped)
	eventually(t, 10*time.Second, "it votes", func() bool { return len(servers(lead.node)) == 3 && len(voters(lead.node)) == 3 })
	for _, s := range sites {
		eventually(t, 3*time.Second, "equal states on "+s.cfg.NodeID, func() bool {
			is, leads := s.node.State(), lead.node.State()
			want, err := leads.Hash()
			must(t, err)
			got, err := is.Hash()
			return err == nil && (got == want || is.Index() != leads.Index())
		})
	}
	// From disk, with nobody to ask.
	for _, s := range sites {
		s.kill()
	}
	upAll(sites)
	awaitReady(t, sites...)
	for i := range 400 {
		if !hasTenant(sites[0].node, fmt.Sprintf("t%d", i)) {
			t.Fatalf("t%d is lost", i)
		}
	}
}

// A follower whose log diverged from the leader's, and is longer than the
// snapshot that it is sent, takes that and goes on from there (raft issue 697).
func TestSnapshotOverADivergentLog(t *testing.T) {
	t.Parallel()
	w := newNetwork()
	sites := newSites(t, 3, func(i int, c *Config, d *Deps) {
		c.Heartbeat, c.Election, c.Lease = time.Second, time.Second, time.Second
		c.SnapshotInterval, c.SnapshotThreshold, c.TrailingLogs = 50*time.Millisecond, 32, 4
		w.plug(i, c, d)
	})
	upAll(sites)
	awaitReady(t, sites...)
	old := leader(t, sites)
	w.split(at(sites, old))
	// Entries that are never committed, and more of them than the others will
	// have written: the divergent log is longer than the snapshot.
	r := old.node.rt.Load().raft
	var all sync.WaitGroup
	for range 400 { // at once, so that they share writes and fit into the lease
		all.Go(func() { r.Apply(encodeEntry(1, nil), 0) })
	}
	all.Wait()
	if r.LastIndex() < 200 { // a slow disk takes fewer
		t.Fatalf("only %d entries", r.LastIndex())
	}
	rest := others(sites, old)
	for i := range 100 {
		propose(t, rest[0].node, fmt.Sprintf("t%d", i))
	}
	eventually(t, 5*time.Second, "the log is compacted", func() bool {
		l := leader(t, rest)
		index, err := l.node.rt.Load().stores.Log.FirstIndex()
		return err == nil && index > 50
	})
	w.heal()
	eventually(t, 10*time.Second, "the divergent node catches up", func() bool { return hasTenant(old.node, "t99") })
	propose(t, old.node, "after")
	want := leader(t, sites).node
	eventually(t, 3*time.Second, "equal logs", func() bool {
		var a, b raft.Log
		index := want.rt.Load().raft.LastIndex()
		return want.rt.Load().stores.Log.GetLog(index, &a) == nil && old.node.rt.Load().stores.Log.GetLog(index, &b) == nil && a.Term == b.Term
	})
}
