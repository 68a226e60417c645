package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
	"github.com/org/envoy-control-plane/fsm"
)

// grown makes a cluster of the first nodes and leaves the others to join it.
func grown(t *testing.T, first, count int, change func(i int, c *Config, d *Deps)) []*site {
	t.Helper()
	sites := newSites(t, count, func(i int, c *Config, d *Deps) {
		c.Membership = 50 * time.Millisecond
		if c.BootstrapExpect = 0; i < first {
			c.BootstrapExpect, c.Join = first, c.Join[:first]
		}
		if change != nil {
			change(i, c, d)
		}
	})
	upAll(sites[:first])
	awaitReady(t, sites[:first]...)
	return sites
}

func awaitVoters(t *testing.T, n *Node, want ...string) {
	t.Helper()
	eventually(t, 20*time.Second, fmt.Sprintf("voters %v", want), func() bool { return slices.Equal(voters(n), want) })
}

func names(n *Node) []string {
	var out []string
	for id := range servers(n) {
		out = append(out, nodeOf(id))
	}
	slices.Sort(out)
	return out
}

// writers write on nodes, all at the same time, until each is told to stop.
type writers struct {
	mu           sync.Mutex
	acknowledged []string
	wg           sync.WaitGroup
}

// on writes on a node until the returned function is called, which reports the
// first write that failed.
func (w *writers) on(n *Node, pace time.Duration) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	w.wg.Go(func() {
		var failed error
		for i := 0; ctx.Err() == nil; i++ {
			name := fmt.Sprintf("%s-%d", n.NodeID(), i)
			r, err := n.Propose(context.WithoutCancel(ctx), putTenant(name))
			if err == nil {
				err = fsm.ResultError(r)
			}
			if err == nil {
				w.mu.Lock()
				w.acknowledged = append(w.acknowledged, name)
				w.mu.Unlock()
			} else if failed == nil && fsm.CodeOf(err) != fsm.CodeOutcomeUnknown {
				failed = err
			}
			pause(ctx, pace)
		}
		done <- failed
	})
	return sync.OnceValue(func() error { cancel(); return <-done })
}

func TestGrowToTwentyAndShrinkBack(t *testing.T) {
	t.Parallel()
	const count, keep, batch = 20, 3, 4
	sites := grown(t, keep, count, func(i int, c *Config, _ *Deps) {
		c.Heartbeat, c.Election, c.Lease = time.Second, time.Second, 500*time.Millisecond
		c.Commit, c.Membership = 20*time.Millisecond, 250*time.Millisecond
		c.Zone = string(rune('a' + i%3))
	})
	n1 := sites[0].node
	var most atomic.Int64
	watching, stopWatching := context.WithCancel(context.Background())
	var watch sync.WaitGroup
	watch.Go(func() {
		for ; watching.Err() == nil; pause(watching, 2*time.Millisecond) {
			most.Store(max(most.Load(), int64(len(voters(n1)))))
		}
	})
	var w writers
	stop := map[*site]func() error{}
	start := func(sites []*site) {
		for _, s := range sites {
			stop[s] = w.on(s.node, 100*time.Millisecond)
		}
	}
	start(sites[:keep])
	for at := keep; at < count; at += batch {
		next := sites[at:min(at+batch, count)]
		upAll(next)
		awaitReady(t, next...)
		start(next)
	}
	eventually(t, 20*time.Second, "five voters of twenty nodes", func() bool { return len(voters(n1)) == 5 && len(servers(n1)) == count })
	// The voters go first, so that others have to take their place.
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for at := keep; at < count; at += batch {
		next := sites[at:min(at+batch, count)]
		var removals sync.WaitGroup
		for i, s := range next {
			removals.Go(func() {
				if err := sites[i%keep].node.RemoveNode(ctx, s.cfg.NodeID); err != nil {
					t.Errorf("remove %s: %v", s.cfg.NodeID, err)
				}
			})
		}
		removals.Wait()
		for _, s := range next {
			go func() { _ = stop[s]() }() // its last write finds no leader
			s.kill()
		}
	}
	awaitVoters(t, n1, "n1", "n2", "n3")
	for _, s := range sites[:keep] {
		if err := stop[s](); err != nil {
			t.Errorf("a write on %s: %v", s.cfg.NodeID, err)
		}
	}
	w.wg.Wait()
	stopWatching()
	watch.Wait()
	if most.Load() != 5 || len(names(n1)) != keep {
		t.Errorf("%d voters at most, members %v", most.Load(), names(n1))
	}
	if len(w.acknowledged) < 2*count {
		t.Errorf("only %d writes", len(w.acknowledged))
	}
	propose(t, n1, "last")
	for _, s := range sites[:keep] {
		eventually(t, 10*time.Second, "all is applied", func() bool { return hasTenant(s.node, "last") })
		for _, name := range w.acknowledged {
			if !hasTenant(s.node, name) {
				t.Fatalf("%s lost %s", s.cfg.NodeID, name)
			}
		}
	}
	t.Logf("%d writes, term %d", len(w.acknowledged), n1.Term())
}

func TestFailedVoterIsReplaced(t *testing.T) {
	t.Parallel()
	sites := grown(t, 3, 4, func(_ int, c *Config, _ *Deps) { c.ReplaceAfter = 500 * time.Millisecond })
	victim := others(sites[:3], leader(t, sites[:3]))[0]
	rest := slices.DeleteFunc(slices.Clone(sites[:3]), func(s *site) bool { return s == victim })
	victim.kill()
	lead := leader(t, rest)
	report := func() string {
		r, err := rest[1].node.Report(context.Background())
		must(t, err)
		return r.Plan
	}
	eventually(t, 10*time.Second, "the report says that it has failed", func() bool {
		return report() == victim.cfg.NodeID+" has failed, and no node is there to take its place"
	})
	if got := voters(lead.node); len(got) != 3 {
		t.Fatalf("without a replacement: voters %v", got)
	}
	least := 3
	sites[3].up()
	eventually(t, 20*time.Second, "another node votes in its place", func() bool {
		got := voters(lead.node)
		least = min(least, len(got))
		return len(got) == 3 && !slices.Contains(got, victim.cfg.NodeID) && slices.Contains(got, "n4")
	})
	if least < 3 {
		t.Errorf("%d voters in between", least)
	}
	eventually(t, 10*time.Second, "nothing is due", func() bool { return report() == "one more node is missing for 5 voters" || report() == "" })
	// It is still a member, and no voter when it is back: nothing asks for it.
	victim.up()
	awaitReady(t, victim)
	if got := servers(lead.node); len(got) != 4 || len(voters(lead.node)) != 3 {
		t.Errorf("%v", got)
	}
}

func TestSilentNonVoterIsForgotten(t *testing.T) {
	t.Parallel()
	sites := grown(t, 3, 4, func(_ int, c *Config, _ *Deps) { c.ForgetAfter = time.Second })
	sites[3].up()
	awaitReady(t, sites[3])
	sites[3].kill()
	eventually(t, 20*time.Second, "it is forgotten", func() bool { return len(servers(sites[0].node)) == 3 })
	sites[3].up()
	eventually(t, 20*time.Second, "it knows", sites[3].node.removed)
	// A voter is not: there is nobody in its place.
	victim := others(sites[:3], leader(t, sites[:3]))[0]
	victim.kill()
	time.Sleep(3 * time.Second)
	if got := voters(leader(t, sites[:3]).node); len(got) != 3 {
		t.Errorf("voters %v", got)
	}
}

func TestVotersSpreadOverZones(t *testing.T) {
	t.Parallel()
	sites := grown(t, 3, 6, func(i int, c *Config, _ *Deps) { c.Zone = string("aaabcc"[i]) })
	lead := leader(t, sites[:3])
	term := lead.node.Term()
	sites[3].up()
	eventually(t, 20*time.Second, "one of zone a gives its place to n4", func() bool {
		got := voters(lead.node)
		return len(got) == 3 && slices.Contains(got, "n4") && slices.Contains(got, lead.cfg.NodeID)
	})
	upAll(sites[4:])
	eventually(t, 20*time.Second, "five voters in three zones", func() bool {
		zones := map[string]int{}
		for _, s := range sites {
			if slices.Contains(voters(lead.node), s.cfg.NodeID) {
				zones[s.cfg.Zone]++
			}
		}
		return zones["a"] == 2 && zones["b"] == 1 && zones["c"] == 2
	})
	if lead.node.Term() != term || !lead.node.IsLeader() {
		t.Errorf("the leader has moved in term %d", lead.node.Term())
	}
}

func TestVoterThatNoLongerWantsToVote(t *testing.T) {
	t.Parallel()
	sites := grown(t, 3, 3, nil)
	unwilling, other, away := sites[0], sites[1], sites[2]
	away.kill()
	unwilling.kill()
	unwilling.cfg.NonVoter = true
	unwilling.up()
	// With one of three away its vote is needed, and it may even lead.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	eventually(t, 20*time.Second, "it leads", func() bool {
		return unwilling.node.TransferLeadership(ctx, unwilling.cfg.NodeID) == nil && unwilling.node.IsLeader()
	})
	eventually(t, 10*time.Second, "it says what it waits for", func() bool {
		r, err := other.node.Report(ctx)
		return err == nil && strings.Contains(r.Plan, "n1 does not want to vote")
	})
	if got := voters(unwilling.node); len(got) != 3 {
		t.Errorf("voters %v", got)
	}
	away.up()
	awaitVoters(t, other.node, "n2", "n3")
	if leader(t, sites) == unwilling {
		t.Error("it still leads")
	}
}

// TestDemotedNodesGiveTheirVotesUp: from five voters to three, asked through a
// node of its own choice, and back.
func TestDemotedNodesGiveTheirVotesUp(t *testing.T) {
	t.Parallel()
	sites := grown(t, 5, 5, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for _, id := range []string{"n4", "n5"} {
		must(t, sites[0].node.SetVoting(ctx, id, false))
	}
	awaitVoters(t, sites[0].node, "n1", "n2", "n3")
	if got := names(sites[0].node); len(got) != 5 {
		t.Errorf("members %v", got)
	}
	must(t, sites[3].node.SetVoting(ctx, "n4", true))
	must(t, sites[0].node.SetVoting(ctx, "n5", true))
	awaitVoters(t, sites[0].node, "n1", "n2", "n3", "n4", "n5")
	if err := sites[0].node.SetVoting(ctx, "n9", false); fsm.CodeOf(err) != fsm.CodeNodeNotFound {
		t.Errorf("a node that is not there: %v", err)
	}
}

func TestRemovedNodeKnows(t *testing.T) {
	t.Parallel()
	var drained atomic.Bool
	sites := grown(t, 3, 4, func(i int, _ *Config, d *Deps) {
		if i == 3 {
			d.SetDraining = func(on bool, _ time.Duration) { drained.Store(on) }
		}
	})
	gone := sites[3]
	gone.up()
	awaitReady(t, gone)
	term := sites[0].node.Term()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	stays := func() {
		t.Helper()
		eventually(t, 10*time.Second, "it knows", func() bool {
			h := gone.node.Health()
			return !h.Ready && !gone.node.Ready() && slices.Contains(h.Reasons, removedReason)
		})
		if got := names(sites[0].node); len(got) != 3 {
			t.Errorf("members %v", got)
		}
	}
	must(t, gone.node.RemoveNode(ctx, "n4"))
	stays()
	eventually(t, 10*time.Second, "it hands its streams over", drained.Load)
	// A restart changes nothing, an empty disk does.
	gone.kill()
	gone.cfg.StaleAfter = 100 * time.Millisecond
	gone.up()
	stays()
	time.Sleep(2 * time.Second)
	stays()
	if gone.node.Stale() {
		t.Error("it serves what it had")
	}
	gone.kill()
	gone.wipe()
	gone.up()
	awaitReady(t, gone)
	// Removed while it was away, it learns of it when it is back.
	gone.kill()
	must(t, sites[0].node.RemoveNode(ctx, "n4"))
	gone.up()
	stays()
	// One that never was a member, whatever its log says, asks again.
	gone.kill()
	ident, err := loadIdentity(gone.cfg.DataDir, "n4")
	must(t, err)
	must(t, ident.update(func(id *clusterpb.Identity) error {
		id.Admitted, id.Removed = false, false
		return nil
	}))
	gone.up()
	awaitReady(t, gone)
	if got := names(sites[0].node); len(got) != 4 {
		t.Errorf("members %v", got)
	}
	if got := sites[0].node.Term(); got != term {
		t.Errorf("it disturbed the others: term %d, then %d", term, got)
	}
}

// Of removals at the same time as many are done as leave a live majority.
func TestRemovalsKeepAMajority(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 5, nil)
	upAll(sites)
	awaitReady(t, sites...)
	lead := leader(t, sites)
	rest := others(sites, lead)
	rest[0].kill()
	rest[1].kill()
	// Three of five are alive: without another one there is no majority.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for _, s := range rest[2:] {
		wg.Go(func() {
			err := lead.node.RemoveNode(ctx, s.cfg.NodeID)
			if fsm.CodeOf(err) != fsm.CodeWouldLoseQuorum || !strings.Contains(err.Error(), "2 of 4 voters are alive") {
				t.Errorf("%s: %v", s.cfg.NodeID, err)
			}
		})
	}
	wg.Wait()
	must(t, lead.node.RemoveNode(ctx, rest[0].cfg.NodeID))
	// Three of four: each alone could go, both cannot.
	errs := make([]error, 2)
	for i, s := range rest[2:] {
		wg.Go(func() { errs[i] = lead.node.RemoveNode(ctx, s.cfg.NodeID) })
	}
	wg.Wait()
	refused := slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(refused) > 1 || (len(refused) == 1 && fsm.CodeOf(refused[0]) != fsm.CodeWouldLoseQuorum) {
		t.Errorf("%v", refused)
	}
	propose(t, lead.node, "after")
}

func TestAttendance(t *testing.T) {
	at := time.Unix(1000, 0)
	a := &attendance{replaceAfter: 10 * time.Second, forgetAfter: 20 * time.Second}
	look := func(term uint64, after time.Duration, alive bool) standing {
		at = at.Add(after)
		s := standing{serverID: "n1/1", alive: alive, caughtUp: alive}
		if alive {
			s.zone = "a"
		}
		return a.look(term, at, []standing{s})[0]
	}
	for i := range steady {
		if s := look(1, time.Second, true); s.caughtUp != (i == steady-1) || s.failed {
			t.Errorf("look %d: %+v", i, s)
		}
	}
	for i := range 20 {
		s := look(1, time.Second, false)
		if s.failed != (i >= 9) || s.lost != (i >= 19) || s.zone != "a" {
			t.Errorf("%d s of silence: %+v", i+1, s)
		}
	}
	if s := look(1, time.Second, true); s.failed || s.lost || s.caughtUp {
		t.Errorf("back: %+v", s)
	}
	// A leader that slept has not heard silence.
	if s := look(1, time.Hour, false); s.failed {
		t.Errorf("after an hour's sleep: %+v", s)
	}
	look(1, 4*time.Second, false)
	if s := look(1, 4*time.Second, false); !s.failed {
		t.Errorf("silent: %+v", s)
	}
	if s := look(2, 4*time.Second, false); s.failed || s.zone != "" {
		t.Errorf("a new term: %+v", s)
	}
	never := &attendance{}
	never.look(1, at, []standing{{serverID: "n1/1"}})
	if s := never.look(1, at.Add(time.Second), []standing{{serverID: "n1/1"}})[0]; s.failed || s.lost {
		t.Errorf("%+v", s)
	}
}

func TestStandings(t *testing.T) {
	n := &Node{ident: &identity{id: &clusterpb.Identity{NodeId: "n1", Incarnation: "1"}}}
	servers := []raft.Server{{ID: "n1/1"}, {ID: "n2/1"}, {ID: "n3/1", Suffrage: raft.Nonvoter}, {ID: "n4/1", Suffrage: raft.Nonvoter}}
	got := n.standings(servers, map[string]*clusterpb.NodeInfo{
		"n1/1": {Voter: true, Applied: 100, Zone: "a"},
		"n2/1": {Voter: true, Applied: 100, OutOfRaft: true}, // its disk failed: it answers, and is no voter to count on
		"n3/1": {Applied: 100 - maxLag - 1},
	}, 100)
	want := []standing{
		{serverID: "n1/1", zone: "a", voter: true, leader: true, alive: true, willing: true, caughtUp: true},
		{serverID: "n2/1", voter: true, willing: true, caughtUp: true},
		{serverID: "n3/1", alive: true},
		{serverID: "n4/1"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestRemovable(t *testing.T) {
	twice := append(standingsOf("L V v"), standing{serverID: "n3/2", voter: true, alive: true})
	if got, err := removable(twice, "n3"); err != nil || !slices.Equal(got, []string{"n3/1", "n3/2"}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, c := range []struct{ servers, node, want string }{
		{"L V V", "n2", ""},
		{"L V", "n1", ""},
		{"L", "n1", "the only voter"},
		{"L v", "n2", ""},
		{"L V v", "n2", "only 1 of 2 voters are alive"},
		{"L V v", "n3", ""},
		{"L V v N", "n4", ""},
		{"L V V v v", "n2", "only 2 of 4 voters are alive"},
		{"L", "n9", "no node"},
	} {
		_, err := removable(standingsOf(c.servers), c.node)
		if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s without %s: %v", c.servers, c.node, err)
		}
	}
}
