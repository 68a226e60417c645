package cluster

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/cluster/transport"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// recordTimeout bounds how long a change of the membership waits for its record.
const recordTimeout = 2 * time.Second

// recordMembership writes into the log, on the leader, who belongs to the cluster,
// unless the state says just that; n.membership is held. So there is one record
// behind each change and before the next. When it fails, or the leader dies in
// between, what is missing is recorded with the next one.
func (n *Node) recordMembership(ctx context.Context, rt *runtime, why string) {
	term, _ := n.lead.get()
	st := n.State()
	if term == 0 || st.FeatureLevel() < fsm.LevelMembership || st.Identity() == nil {
		return
	}
	now := &fsmpb.Membership{Leader: n.cfg.NodeID, Term: term, Members: recordedMembers(rt.servers())}
	if proto.Equal(now, st.Membership()) {
		return
	}
	body, err := proto.Marshal(&fsmpb.Command{By: "cluster", Op: &fsmpb.Command_RecordMembership{
		RecordMembership: &fsmpb.RecordMembership{Membership: now, Why: why},
	}})
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, recordTimeout)
		defer cancel()
		var r *fsmpb.Result
		if r, err = rt.proposer.submit(ctx, body); err == nil {
			err = fsm.ResultError(r)
		}
	}
	if err != nil {
		n.log.Warn("the membership is not recorded yet", "error", err)
	}
}

// recordIfQuiet does it between changes: for a new leader, and for what was not
// recorded when it happened.
func (n *Node) recordIfQuiet(ctx context.Context, rt *runtime) {
	if !n.membership.TryLock() {
		return // whoever changes it records it
	}
	defer n.membership.Unlock()
	if rt.raft.State() == raft.Leader {
		n.recordMembership(ctx, rt, "")
	}
}

func recordedMembers(servers []raft.Server) []*fsmpb.Member {
	out := make([]*fsmpb.Member, len(servers))
	for i, s := range servers {
		_, address := transport.SplitAddress(s.Address)
		role := fsmpb.Member_NONVOTER
		if s.Suffrage == raft.Voter {
			role = fsmpb.Member_VOTER
		}
		out[i] = &fsmpb.Member{Node: nodeOf(string(s.ID)), ServerId: string(s.ID), Address: address, Role: role}
	}
	slices.SortFunc(out, func(a, b *fsmpb.Member) int { return strings.Compare(a.ServerId, b.ServerId) })
	return out
}
