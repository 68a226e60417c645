package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
	"github.com/org/envoy-control-plane/fsm"
)

// TransferLeadership makes another node the leader; empty: any voter.
func (n *Node) TransferLeadership(ctx context.Context, nodeID string) error {
	return n.onLeader(ctx, func(ctx context.Context, c clusterpb.PeerClient) (*clusterpb.Outcome, error) {
		return c.Transfer(ctx, &clusterpb.TransferRequest{NodeId: nodeID})
	}, func(ctx context.Context) error { return n.transferHere(ctx, nodeID) })
}

// RemoveNode takes a node out of the cluster for good. Refused when the voters
// that are left would have no live majority.
func (n *Node) RemoveNode(ctx context.Context, nodeID string) error {
	return n.onLeader(ctx, func(ctx context.Context, c clusterpb.PeerClient) (*clusterpb.Outcome, error) {
		return c.Remove(ctx, &clusterpb.RemoveRequest{NodeId: nodeID})
	}, func(ctx context.Context) error { return n.removeHere(ctx, nodeID) })
}

// onLeader does something on the leader, wherever that is, and tries again
// while there certainly was none.
func (n *Node) onLeader(ctx context.Context, there func(context.Context, clusterpb.PeerClient) (*clusterpb.Outcome, error), here func(context.Context) error) error {
	deadline := time.Now().Add(2 * n.cfg.Failover)
	for {
		err := n.onLeaderOnce(ctx, there, here)
		code := fsm.CodeOf(err)
		if code != fsm.CodeNoLeader && code != fsm.CodeNotLeader {
			return err
		}
		if time.Now().After(deadline) || !pause(ctx, 20*time.Millisecond) {
			return errNoLeader
		}
	}
}

func (n *Node) onLeaderOnce(ctx context.Context, there func(context.Context, clusterpb.PeerClient) (*clusterpb.Outcome, error), here func(context.Context) error) error {
	rt := n.rt.Load()
	if rt == nil {
		return errNoLeader
	}
	if rt.raft.State() == raft.Leader {
		return here(ctx)
	}
	leader := n.leaderServer()
	if leader == "" || leader == n.ident.ServerID() {
		return errNoLeader
	}
	client, err := rt.peers.to(leader)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoLeader, err)
	}
	outcome, err := there(ctx, client)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnknown, err)
	}
	return errorOf(outcome)
}

// transferHere hands leadership from this node to another. Nothing is in
// flight meanwhile, so that no write ends without a known outcome.
func (n *Node) transferHere(ctx context.Context, nodeID string) error {
	rt := n.rt.Load()
	if rt == nil || rt.raft.State() != raft.Leader {
		return errNotLeader
	}
	var to *raft.Server
	if nodeID != "" {
		if nodeID == n.cfg.NodeID {
			return nil
		}
		for _, s := range rt.servers() {
			if nodeOf(string(s.ID)) == nodeID && (to == nil || s.Suffrage == raft.Voter) {
				to = &s
			}
		}
		if to == nil {
			return fsm.Refusal(fsm.CodeNodeNotFound, "no node %q in the cluster", nodeID)
		}
		if to.Suffrage != raft.Voter {
			return fsm.Refusal(fsm.CodeInvalid, "node %q is not a voter, it cannot lead", nodeID)
		}
	}
	holding, cancel := context.WithTimeout(ctx, n.cfg.Election)
	defer cancel()
	defer rt.proposer.hold(holding)()
	for attempt := 0; ; attempt++ {
		var f raft.Future
		if to != nil {
			f = rt.raft.LeadershipTransferToServer(to.ID, to.Address)
		} else {
			f = rt.raft.LeadershipTransfer()
		}
		err := waitFuture(ctx, f)
		if err == nil || rt.raft.State() != raft.Leader {
			n.awaitLeader(ctx)
			return nil
		}
		if ctx.Err() != nil || attempt == 2 || alone(rt.servers(), n.ident.ServerID()) {
			return fsm.Refusal(fsm.CodeUnavailable, "leadership stays here: %v", err)
		}
	}
}

// waitFuture waits for one of Raft's futures or for ctx.
func waitFuture(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitLeader waits a moment until there is another leader.
func (n *Node) awaitLeader(ctx context.Context) {
	deadline := time.Now().Add(n.cfg.Election)
	for time.Now().Before(deadline) {
		if id := n.leaderServer(); id != "" && id != n.ident.ServerID() {
			return
		}
		if !pause(ctx, 2*time.Millisecond) {
			return
		}
	}
}

// removeHere removes all incarnations of a node, as the leader.
func (n *Node) removeHere(ctx context.Context, nodeID string) error {
	rt := n.rt.Load()
	if rt == nil || rt.raft.State() != raft.Leader {
		return errNotLeader
	}
	// Of two removals the second is judged by what the first has left.
	n.membership.Lock()
	defer n.membership.Unlock()
	if term, _ := n.lead.get(); term == 0 {
		return errNotLeader
	}
	servers := rt.servers()
	standings := n.standings(servers, n.probeAll(ctx, rt, servers), rt.raft.CommitIndex())
	if ctx.Err() != nil {
		return fmt.Errorf("remove node: %w", ctx.Err())
	}
	going, err := removable(standings, nodeID)
	if err != nil {
		return err
	}
	if nodeID == n.cfg.NodeID {
		// The next leader does it: onLeader asks again.
		if err := n.transferHere(ctx, ""); err != nil {
			return err
		}
		return errNotLeader
	}
	for _, id := range going {
		n.log.Info("removing a node, as told", "server_id", id)
		if err := n.make(rt, remove, raft.Server{ID: raft.ServerID(id)}); err != nil {
			return err
		}
		n.recordMembership(ctx, rt, "an operator removed it")
	}
	return nil
}

// removable returns the incarnations of a node in the order in which they can
// go, or why they cannot: the voters that are left need a live majority.
func removable(servers []standing, nodeID string) ([]string, error) {
	var going []string
	voter := false
	for _, s := range servers {
		switch {
		case nodeOf(s.serverID) != nodeID:
			continue
		case s.alive:
			going = append(going, s.serverID)
		default:
			going = append([]string{s.serverID}, going...) // the dead first: no majority gets smaller by it
		}
		voter = voter || s.voter
	}
	voters, alive := votersWithout(servers, going...)
	switch {
	case len(going) == 0:
		return nil, fsm.Refusal(fsm.CodeNodeNotFound, "no node %q in the cluster", nodeID)
	case voter && voters == 0:
		return nil, fsm.Refusal(fsm.CodeWouldLoseQuorum, "node %q is the only voter", nodeID)
	case voter && !quorumWithout(servers, going...):
		return nil, fsm.Refusal(fsm.CodeWouldLoseQuorum, "without node %q only %d of %d voters are alive, which is no majority", nodeID, alive, voters)
	}
	return going, nil
}

// StepDown gives leadership away, if the node has it and another can take it.
func (n *Node) StepDown(ctx context.Context) error {
	if !n.IsLeader() {
		return nil
	}
	if rt := n.rt.Load(); rt == nil || alone(rt.servers(), n.ident.ServerID()) {
		return nil
	}
	err := n.transferHere(ctx, "")
	if fsm.CodeOf(err) == fsm.CodeNotLeader {
		return nil
	}
	return err
}

// leaveTimeout bounds the farewell to gossip.
const leaveTimeout = 500 * time.Millisecond

// Leave stops the node gracefully: leadership goes to another node, gossip
// hears that it leaves, then Raft and the stores stop and Run returns. It is
// no removal: the node keeps its place. Leave returns after Run.
func (n *Node) Leave(ctx context.Context) error {
	err := n.StepDown(ctx)
	if rt := n.rt.Load(); rt != nil {
		if gone := rt.gossip.Leave(leaveTimeout); gone != nil {
			n.log.Debug("gossip: farewell not heard", "error", gone)
		}
	}
	n.leave.Do(func() { close(n.leaving) })
	if !n.ran.Load() {
		return err
	}
	select {
	case <-n.stopped:
		return err
	case <-ctx.Done():
		return errors.Join(err, ctx.Err())
	}
}
