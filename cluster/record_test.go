package cluster

import (
	"bytes"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// replay makes a membership of events: each must be a change of what was before.
func replay(t *testing.T, st *fsm.State) (members map[string]raft.ServerSuffrage, leaders []string) {
	t.Helper()
	members = map[string]raft.ServerSuffrage{}
	change := func(ev *fsmpb.Event, d *fsmpb.MemberChanged, was, is raft.ServerSuffrage, known bool) {
		if role, ok := members[d.ServerId]; ok != known || (known && role != was) {
			t.Errorf("event %d: %v comes to %v", ev.Seq, ev.Data, members)
		}
		members[d.ServerId] = is
	}
	for ev := range st.Events(0) {
		switch d := ev.Data.(type) {
		case *fsmpb.Event_MemberAdded:
			role := raft.Nonvoter
			if d.MemberAdded.Role == fsmpb.Member_VOTER {
				role = raft.Voter
			}
			change(ev, d.MemberAdded, 0, role, false)
		case *fsmpb.Event_MemberPromoted:
			change(ev, d.MemberPromoted, raft.Nonvoter, raft.Voter, true)
		case *fsmpb.Event_MemberDemoted:
			change(ev, d.MemberDemoted, raft.Voter, raft.Nonvoter, true)
		case *fsmpb.Event_MemberRemoved:
			change(ev, d.MemberRemoved, members[d.MemberRemoved.ServerId], 0, true)
			delete(members, d.MemberRemoved.ServerId)
		case *fsmpb.Event_LeaderElected:
			leaders = append(leaders, d.LeaderElected.Node)
		}
	}
	return members, leaders
}

// told waits until the events tell of just the members that a node has, and of
// its leader.
func told(t *testing.T, n *Node) {
	t.Helper()
	eventually(t, 20*time.Second, "the events tell it", func() bool {
		members, leaders := replay(t, n.State())
		return maps.Equal(members, servers(n)) && len(leaders) > 0 && leaders[len(leaders)-1] == n.LeaderID()
	})
}

// A cluster that grows, is led by others and shrinks tells each change once, in its
// order, and the same on all nodes.
func TestMembershipIsRecorded(t *testing.T) {
	t.Parallel()
	sites := grown(t, 3, 5, nil)
	told(t, sites[0].node)
	if _, leaders := replay(t, sites[0].node.State()); len(leaders) == 0 {
		t.Fatal("no leader was elected")
	}
	for _, s := range sites[3:] {
		s.up()
		awaitReady(t, s)
	}
	awaitVoters(t, sites[0].node, "n1", "n2", "n3", "n4", "n5")
	told(t, sites[0].node)

	first := leader(t, sites)
	first.kill()
	second := leader(t, others(sites, first))
	told(t, second.node)
	first.up()
	awaitReady(t, first)
	if err := second.node.RemoveNode(t.Context(), first.cfg.NodeID); err != nil {
		t.Fatal(err)
	}
	left := others(sites, first)
	for _, s := range left {
		told(t, s.node)
	}
	members, leaders := replay(t, second.node.State())
	if len(members) != 4 || len(leaders) < 2 {
		t.Errorf("%v, leaders %v", members, leaders)
	}
	at := propose(t, second.node, "last").Index
	var want []byte
	for _, s := range left {
		st, err := s.node.WaitApplied(t.Context(), at)
		must(t, err)
		var got []byte
		for ev := range st.Events(0) {
			got = fmt.Appendf(got, "%d %d %s %v\n", ev.Seq, ev.Index, fsm.EventKind(ev), ev.At)
			if ev.Index >= at {
				break
			}
		}
		if want == nil {
			want = got
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s has\n%swant\n%s", s.cfg.NodeID, got, want)
		}
	}
}

// With an older binary in the cluster nothing is recorded; once all know it, it is.
func TestMembershipIsRecordedFromItsLevel(t *testing.T) {
	t.Parallel()
	s := newSites(t, 1, func(_ int, c *Config, d *Deps) {
		c.Membership, d.supports = 20*time.Millisecond, fsm.LevelMembership-1
	})[0]
	s.up()
	awaitReady(t, s)
	time.Sleep(100 * time.Millisecond)
	if got := s.node.State().Membership(); got != nil {
		t.Fatalf("recorded %v", got)
	}
	s.kill()
	s.deps.supports = 0
	s.up()
	awaitReady(t, s)
	_, err := s.node.Finalize(t.Context(), "ann")
	must(t, err)
	told(t, s.node)
}
