package cluster

import (
	"context"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
	"github.com/org/envoy-control-plane/fsm"
)

// willing reports whether the node may vote.
func (n *Node) willing() bool { return !n.cfg.NonVoter && !n.demoted.Load() }

// SetVoting has a node give its vote up, or be ready for one again, until it
// starts anew: then its configuration counts. The leader moves the votes as the
// plan of the membership says: while the others have a live majority.
func (n *Node) SetVoting(ctx context.Context, nodeID string, willing bool) error {
	if nodeID == n.cfg.NodeID {
		return n.setVotingHere(willing)
	}
	return n.tell(nodeID, func(client clusterpb.PeerClient) (*clusterpb.Outcome, error) {
		return client.Vote(ctx, &clusterpb.VoteRequest{Willing: willing})
	})
}

func (n *Node) setVotingHere(willing bool) error {
	if willing && n.cfg.NonVoter {
		return fsm.Refusal(fsm.CodeInvalid, "node %q is configured not to vote", n.cfg.NodeID)
	}
	n.log.Info("voting", "willing", willing)
	n.demoted.Store(!willing)
	return nil
}
