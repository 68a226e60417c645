package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
	"github.com/org/envoy-control-plane/fsm"
)

// DrainNode has a node hand its xDS streams over to the others within a time
// (0: what the node is configured with) and take none, until it is told off or
// starts anew. If it leads, leadership moves.
func (n *Node) DrainNode(ctx context.Context, nodeID string, on bool, within time.Duration) error {
	if nodeID == n.cfg.NodeID {
		return n.drainHere(ctx, on, within)
	}
	return n.tell(nodeID, func(client clusterpb.PeerClient) (*clusterpb.Outcome, error) {
		return client.Drain(ctx, &clusterpb.DrainRequest{On: on, WithinMs: within.Milliseconds()})
	})
}

// tell has another node do something, whichever of its incarnations answers.
func (n *Node) tell(nodeID string, what func(clusterpb.PeerClient) (*clusterpb.Outcome, error)) error {
	rt := n.rt.Load()
	if rt == nil {
		return fsm.Refusal(fsm.CodeUnavailable, "the node is not running")
	}
	err := error(fsm.Refusal(fsm.CodeNodeNotFound, "no node %q in the cluster", nodeID))
	for _, s := range rt.servers() {
		if nodeOf(string(s.ID)) != nodeID {
			continue
		}
		if err = tellServer(rt, string(s.ID), what); err == nil {
			return nil
		}
	}
	return err
}

func tellServer(rt *runtime, serverID string, what func(clusterpb.PeerClient) (*clusterpb.Outcome, error)) error {
	client, err := rt.peers.to(serverID)
	if err != nil {
		return fsm.Refusal(fsm.CodeUnavailable, "node %q: %v", nodeOf(serverID), err)
	}
	outcome, err := what(client)
	if err != nil {
		return fsm.Refusal(fsm.CodeUnavailable, "node %q does not answer: %v", nodeOf(serverID), err)
	}
	return errorOf(outcome)
}

// drainHere drains this node. Leadership that cannot move stays: the streams
// are what matters.
func (n *Node) drainHere(ctx context.Context, on bool, within time.Duration) error {
	if n.deps.SetDraining == nil {
		return errors.New("this node serves no streams")
	}
	n.log.Info("draining", "on", on, "within", within)
	n.deps.SetDraining(on, within)
	if rt := n.rt.Load(); on && rt != nil && rt.raft.State() == raft.Leader {
		if err := n.transferHere(ctx, ""); err != nil {
			n.log.Warn("a draining node goes on leading", "error", err)
		}
	}
	return nil
}
