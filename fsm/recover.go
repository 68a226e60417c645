package fsm

import "github.com/org/envoy-control-plane/fsm/fsmpb"

// Recovered returns the state as the beginning of a new epoch of its cluster,
// which branches off behind the last event: what the old epoch's other nodes
// had beyond it is no part of this history.
func (s *State) Recovered(epoch string) *State {
	t := &transition{State: *s, by: "recover"}
	t.identity = &fsmpb.Identity{
		ClusterId: s.identity.GetClusterId(), Epoch: epoch,
		ParentClusterId: s.identity.GetClusterId(), ParentEpoch: s.identity.GetEpoch(), ParentSeq: s.outbox.seq,
	}
	t.emit(&fsmpb.Event{Data: &fsmpb.Event_ClusterInitialized{
		ClusterInitialized: &fsmpb.ClusterInitialized{Identity: t.identity},
	}})
	t.outbox.settle()
	out := t.State
	return &out
}
