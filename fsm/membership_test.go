package fsm_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func membership(leader string, term uint64, members ...*fsmpb.Member) *fsmpb.Command {
	return &fsmpb.Command{By: "cluster", Op: &fsmpb.Command_RecordMembership{RecordMembership: &fsmpb.RecordMembership{
		Membership: &fsmpb.Membership{Leader: leader, Term: term, Members: members}, Why: "why",
	}}}
}

func voter(node string) *fsmpb.Member {
	return &fsmpb.Member{Node: node, ServerId: node + ".1", Address: node + ":7000", Role: fsmpb.Member_VOTER}
}

func nonvoter(node string) *fsmpb.Member {
	m := voter(node)
	m.Role = fsmpb.Member_NONVOTER
	return m
}

// told are the events as people see them.
func told(t *testing.T, events []*fsmpb.Event) string {
	t.Helper()
	var out []string
	for _, ev := range events {
		data, err := fsm.EventData(ev)
		if err != nil {
			t.Fatal(err)
		}
		if ev.Tenant != "" || ev.By != "cluster" {
			t.Errorf("%v", ev)
		}
		out = append(out, fsm.EventKind(ev)+" "+string(data))
	}
	return strings.Join(out, "\n")
}

func TestEachChangeOfTheMembershipIsAnEvent(t *testing.T) {
	m := newMachine(t)
	n3 := nonvoter("n3")
	moved := nonvoter("n3")
	moved.Address = "elsewhere:7000"
	for i, step := range []struct {
		command *fsmpb.Command
		want    string
	}{
		{
			membership("n1", 2, voter("n1")), `leader_elected {"node":"n1","term":2}
member_added {"address":"n1:7000","node":"n1","role":"voter","server_id":"n1.1","why":"why"}`,
		},
		{membership("n1", 2, voter("n1")), ``},
		{
			membership("n1", 2, voter("n1"), nonvoter("n2"), n3), `member_added {"address":"n2:7000","node":"n2","role":"nonvoter","server_id":"n2.1","why":"why"}
member_added {"address":"n3:7000","node":"n3","role":"nonvoter","server_id":"n3.1","why":"why"}`,
		},
		{
			membership("n1", 2, voter("n1"), voter("n2"), n3),
			`member_promoted {"address":"n2:7000","node":"n2","role":"voter","server_id":"n2.1","why":"why"}`,
		},
		{
			membership("n2", 5, nonvoter("n1"), voter("n2"), moved), `leader_elected {"before":"n1","node":"n2","term":5}
member_demoted {"address":"n1:7000","node":"n1","role":"nonvoter","server_id":"n1.1","why":"why"}
member_moved {"address":"elsewhere:7000","node":"n3","role":"nonvoter","server_id":"n3.1","why":"why"}`,
		},
		{
			membership("n2", 5, voter("n2"), moved),
			`member_removed {"address":"n1:7000","node":"n1","role":"nonvoter","server_id":"n1.1","why":"why"}`,
		},
		{membership("n2", 6, voter("n2"), moved), `leader_elected {"before":"n2","node":"n2","term":6}`},
	} {
		r := m.ok(step.command)
		if got := told(t, m.events); got != step.want || r.Unchanged != (step.want == "") {
			t.Errorf("step %d: %v\n%s\nwant\n%s", i, r, got, step.want)
		}
	}
	m.snapshotHolds()
	if got := m.reread(m.state).Membership(); got.GetLeader() != "n2" || len(got.GetMembers()) != 2 {
		t.Errorf("restored %v", got)
	}
}

func TestMembershipIsRefused(t *testing.T) {
	m := newMachine(t)
	m.ok(membership("n1", 3, voter("n1")))
	for _, c := range []*fsmpb.Command{
		membership("n2", 2, voter("n2")), // an older leader's
		membership("", 4, voter("n1")), membership("n1", 0, voter("n1")), membership("n1", 4), membership("n1", 4, voter("n1"), nonvoter("n1")),
		{Op: &fsmpb.Command_RecordMembership{}},
	} {
		m.refused(fsm.CodeInvalid, c)
	}
}

// Binaries of the level before know neither the command nor its place in
// snapshots, and are given neither.
func TestNoMembershipBelowItsLevel(t *testing.T) {
	m := founded(t, fsm.LevelMembership-1)
	before := snapshot(t, m.state)
	m.refused(fsm.CodeInvalid, membership("n1", 2, voter("n1")))
	if m.state.Membership() != nil || len(snapshot(t, m.state)) != len(before) {
		t.Error("it is recorded")
	}
	m.ok(raiseLevel(fsm.LevelMembership))
	m.ok(membership("n1", 2, voter("n1")))
	if bytes.Equal(snapshot(t, m.state), before) || m.state.Membership() == nil {
		t.Error("it is not recorded")
	}
}

// A restore leaves the nodes as they are, and a cluster that goes on from a backup
// has nodes of its own.
func TestMembershipIsNotOfTheBackup(t *testing.T) {
	from := newMachine(t)
	from.ok(membership("old", 9, voter("old")))
	m := newMachine(t)
	m.ok(membership("n1", 2, voter("n1")))
	m.ok(restore(m.take(from), "e2"))
	if got := m.state.Membership(); got.GetLeader() != "n1" {
		t.Errorf("after a restore: %v", got)
	}
	seeded := &machine{t: t, state: fsm.New()}
	init := cluster("c2", "e9")
	init.GetInitCluster().SeedSha256 = seeded.take(from)
	seeded.ok(init)
	if got := seeded.state.Membership(); got != nil {
		t.Errorf("of a seeded cluster: %v", got)
	}
	seeded.ok(membership("n7", 2, voter("n7")))
}
