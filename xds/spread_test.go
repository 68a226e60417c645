package xds

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// following returns a fixture whose cluster wants to know how far revisions
// are.
func following(t *testing.T) *fixture {
	f := newFixture(t, func(c *Config) { c.SummaryInterval, c.WarmingGrace = 10*time.Millisecond, 50*time.Millisecond })
	f.do(&fsmpb.Command{Op: &fsmpb.Command_RaiseLevel{RaiseLevel: &fsmpb.RaiseLevel{Level: fsm.LevelConvergence}}})
	f.do(&fsmpb.Command{Op: &fsmpb.Command_ConfigureArchive{ConfigureArchive: &fsmpb.ConfigureArchive{
		Settings: &fsmpb.ArchiveSettings{Enabled: true},
	}}})
	return f
}

// convergence waits for what the node says of a revision.
func (f *fixture) convergence(revision uint64) *fsmpb.Convergence {
	f.t.Helper()
	var found *fsmpb.Convergence
	eventually(f.t, fmt.Sprintf("revision %d is summed up", revision), func() bool {
		for e := range f.current().Events(0) {
			if c := e.GetConvergenceRecorded(); c.GetRevision() == revision {
				found = c
			}
		}
		return found != nil
	})
	return found
}

func (f *fixture) wantConvergence(revision uint64, want string) {
	f.t.Helper()
	c := f.convergence(revision)
	got := fmt.Sprintf("%d: %d synced, %d rejected, %d departed", c.Expected, c.Synced, c.Rejected, c.Departed)
	if got != want {
		f.t.Fatalf("revision %d: %s; want %s", revision, got, want)
	}
	info, _ := f.current().Revision("default", "web", revision)
	if c.Tenant != "default" || c.Fleet != "web" || c.Node != "node-1" || c.RevisionIndex != info.Info.Index || c.CommittedAt != info.Info.At {
		f.t.Fatalf("revision %d: %v", revision, c)
	}
	n := uint32(0)
	for _, r := range c.Reached {
		n += r.Streams
	}
	if n != c.Synced || len(c.Slowest) != int(c.Synced) {
		f.t.Fatalf("revision %d: %v", revision, c)
	}
}

func TestSpreadOfRevisions(t *testing.T) {
	f := following(t)
	f.fleet("default", "web")
	p1, p2 := f.connectAs(adsDelta, node("p1", "web", "")), f.connectAs(adsState, node("p2", "web", ""))
	for _, c := range []*client{p1, p2} {
		c.ask(fsm.TypeCluster)
	}
	eventually(t, "both are there", func() bool { return f.streamsOf("p1")+f.streamsOf("p2") == 2 })

	f.replace(cluster(t, "a", 1))
	p1.accept("cluster a")
	p2.accept("cluster a")
	f.wantConvergence(1, "2: 2 synced, 0 rejected, 0 departed")

	// One that is slow, and one that rejects.
	f.replace(cluster(t, "a", 2))
	p2.nack(p2.want("cluster a"), "no")
	time.Sleep(50 * time.Millisecond)
	p1.accept("cluster a")
	f.wantConvergence(2, "2: 1 synced, 1 rejected, 0 departed")
	if slow := f.convergence(2).Slowest[0]; slow.Proxy != "p1" || slow.AfterMs < 50 {
		t.Fatalf("slowest %v", slow)
	}

	// What nobody subscribes to changes nothing for anybody.
	f.replace(cluster(t, "a", 2), listener(t, "l", 80))
	f.wantConvergence(3, "2: 1 synced, 1 rejected, 0 departed")
	if took := f.convergence(3).Slowest[0].AfterMs; took > 1500 {
		t.Fatalf("a change that touches nothing took %d ms", took)
	}

	// A later revision brings an earlier one, and leaving is no convergence.
	f.replace(cluster(t, "a", 4))
	r := p1.want("cluster a")
	p2.want("cluster a")
	f.replace(cluster(t, "a", 5))
	p2.close()
	p1.ack(r)
	p1.accept("cluster a")
	f.wantConvergence(4, "2: 1 synced, 0 rejected, 1 departed")
	f.wantConvergence(5, "2: 1 synced, 0 rejected, 1 departed")

	// Who comes later has it from the start and does not count.
	p3 := f.connectAs(adsDelta, node("p3", "web", ""))
	p3.ask(fsm.TypeCluster)
	p3.accept("cluster a")
	f.replace(cluster(t, "a", 6))
	p1.accept("cluster a")
	p3.accept("cluster a")
	f.wantConvergence(6, "2: 2 synced, 0 rejected, 0 departed")
	eventually(t, "nothing is followed", func() bool { return len(f.server.hub.followed()) == 0 })
}

// Without an archive nobody could ask, and an older node would not understand.
func TestNothingIsFollowedForNobody(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.SummaryInterval, c.WarmingGrace = 10*time.Millisecond, 50*time.Millisecond })
	c := f.connect(adsDelta)
	c.ask(fsm.TypeCluster)
	f.replace(cluster(t, "a", 1))
	c.accept("cluster a")
	if len(f.server.hub.followed()) != 0 {
		t.Fatal("it is followed")
	}
}

func TestBuckets(t *testing.T) {
	for ms := uint32(0); ms < 4_000_000; ms += 1 + ms/100 {
		b := within(ms)
		if b < ms || b-ms > ms/16 || within(b) != b {
			t.Fatalf("%d ms: within %d", ms, b)
		}
	}
}

func TestSummariesAreBounded(t *testing.T) {
	var s spreads
	began := time.Now()
	info := func(n uint64) *fsmpb.Revision {
		return &fsmpb.Revision{Tenant: "default", Fleet: "web", Revision: n, Index: n, At: began.UnixNano()}
	}
	streams := make([]*stream, 5000)
	for i := range streams {
		streams[i] = &stream{id: Identity{"default", "web", fmt.Sprint("proxy-", i, string(make([]byte, 900)))}}
	}
	for n := range uint64(2 * maxSpreads) {
		if s.begin(info(n+1), len(streams), began) != (n < maxSpreads) {
			t.Fatalf("revision %d", n+1)
		}
	}
	order := rand.Perm(len(streams))
	for i, n := range order[:4000] {
		now := began.Add(time.Duration(i) * 10 * time.Millisecond)
		s.settle(streams[n], 100, func(sp *spread) { sp.arrived(streams[n].id.Proxy, now) })
		s.settle(streams[n], 100, func(*spread) { t.Fatal("twice") })
	}
	if got := s.summaries(began, streams); len(got) != 0 {
		t.Fatalf("%d summaries are due", len(got))
	}
	got := s.summaries(began.Add(firstSummary), streams)
	if len(got) != maxSpreads {
		t.Fatalf("%d summaries", len(got))
	}
	c := got[0]
	if c.Expected != 5000 || c.Synced != 4000 || len(c.Reached) > 200 || len(c.Slowest) == 0 || len(c.Slowest) > maxNamed {
		t.Fatalf("%v", c)
	}
	if c.Slowest[0].Proxy != streams[order[3999]].id.Proxy || c.Slowest[0].AfterMs != 39990 {
		t.Fatalf("slowest %d ms", c.Slowest[0].AfterMs)
	}
	if !slices.IsSortedFunc(c.Slowest, func(a, b *fsmpb.SlowProxy) int { return int(b.AfterMs) - int(a.AfterMs) }) {
		t.Fatal("not by time")
	}
	for _, st := range streams {
		s.settle(st, 100, func(sp *spread) { sp.departed++ })
	}
	if got := s.summaries(began.Add(firstSummary), nil); len(got) != maxSpreads || got[0].Departed != 1000 || !s.idle() {
		t.Fatalf("%v", got)
	}
	if !s.begin(info(1), 1, began) {
		t.Fatal("a fleet that was made anew is not followed")
	}
	if got := s.summaries(began.Add(lastSummary), streams[:1]); len(got) != 1 || len(got[0].Waiting) != 1 || !s.idle() {
		t.Fatalf("it is never given up: %v", got)
	}
}

func TestWaitingSummariesAreBounded(t *testing.T) {
	r := idleReporter()
	for n := range uint64(3 * maxSummaries) {
		r.converged([]*fsmpb.Convergence{
			{Tenant: "t", Fleet: "f", Revision: n, RevisionIndex: n}, {Tenant: "t", Fleet: "g", Revision: 1, RevisionIndex: 1, Synced: uint32(n)},
		})
	}
	n := 0
	for some := r.takeSummaries(); len(some) > 0; some = r.takeSummaries() {
		if len(some) > maxBatchSummaries {
			t.Fatalf("%d at once", len(some))
		}
		n += len(some)
	}
	if n != maxSummaries {
		t.Fatalf("%d wait", n)
	}
}
