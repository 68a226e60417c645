package fsm

import (
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Membership returns who belongs to the cluster and who leads it, as it was last
// recorded; nil when it never was.
func (s *State) Membership() *fsmpb.Membership { return s.membership }

// recordMembership makes each difference from the record before one event. Terms
// only rise: an older leader's word comes too late.
func (t *transition) recordMembership(c *fsmpb.RecordMembership) (*fsmpb.Result, *Error) {
	now, before := c.GetMembership(), t.membership
	if now.GetLeader() == "" || now.GetTerm() == 0 || len(now.GetMembers()) == 0 {
		return nil, Refusal(CodeInvalid, "a membership has members, one of which leads in a term")
	}
	members, doubled := byServer(now)
	if doubled != "" {
		return nil, Refusal(CodeInvalid, "server %s is a member twice", doubled)
	}
	if now.Term < before.GetTerm() {
		return nil, Refusal(CodeInvalid, "term %d is over: %s leads in %d", now.Term, before.GetLeader(), before.GetTerm())
	}
	if proto.Equal(now, before) {
		return unchanged(), nil
	}
	t.membership = now
	if now.Term != before.GetTerm() || now.Leader != before.GetLeader() {
		t.emit(&fsmpb.Event{Data: &fsmpb.Event_LeaderElected{
			LeaderElected: &fsmpb.LeaderElected{Node: now.Leader, Term: now.Term, Before: before.GetLeader()},
		}})
	}
	old, _ := byServer(before)
	for _, m := range now.Members {
		t.emitMember(old[m.ServerId], m, c.Why)
	}
	for _, m := range before.GetMembers() {
		if members[m.ServerId] == nil {
			t.emit(&fsmpb.Event{Data: &fsmpb.Event_MemberRemoved{MemberRemoved: memberChanged(m, c.Why)}})
		}
	}
	return &fsmpb.Result{}, nil
}

// byServer returns the members by server id, and one that is there twice.
func byServer(m *fsmpb.Membership) (members map[string]*fsmpb.Member, doubled string) {
	members = make(map[string]*fsmpb.Member, len(m.GetMembers()))
	for _, x := range m.GetMembers() {
		if members[x.ServerId] != nil {
			doubled = x.ServerId
		}
		members[x.ServerId] = x
	}
	return members, doubled
}

// emitMember says what has become of a member that is there; was is nil for a new
// one.
func (t *transition) emitMember(was, is *fsmpb.Member, why string) {
	data := memberChanged(is, why)
	if was == nil {
		t.emit(&fsmpb.Event{Data: &fsmpb.Event_MemberAdded{MemberAdded: data}})
		return
	}
	if was.Address != is.Address {
		t.emit(&fsmpb.Event{Data: &fsmpb.Event_MemberMoved{MemberMoved: data}})
	}
	switch {
	case was.Role == is.Role:
	case is.Role == fsmpb.Member_VOTER:
		t.emit(&fsmpb.Event{Data: &fsmpb.Event_MemberPromoted{MemberPromoted: data}})
	default:
		t.emit(&fsmpb.Event{Data: &fsmpb.Event_MemberDemoted{MemberDemoted: data}})
	}
}

func memberChanged(m *fsmpb.Member, why string) *fsmpb.MemberChanged {
	return &fsmpb.MemberChanged{Node: m.Node, ServerId: m.ServerId, Address: m.Address, Role: m.Role, Why: why}
}
