package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
	"github.com/org/envoy-control-plane/cluster/transport"
	"github.com/org/envoy-control-plane/fsm"
)

const (
	// changeTimeout bounds one change of the Raft configuration.
	changeTimeout = 5 * time.Second
	// maxServers bounds the configuration.
	maxServers = 64
)

// join asks the cluster that the node belongs to for its place in it.
func (n *Node) join(ctx context.Context, rt *runtime) (wait string, err error) {
	own := n.ident.get()
	cluster := own.ClusterId
	v := n.look(ctx, rt)
	members, wait := v.members()
	if wait != "" {
		return wait, nil
	}
	detail := "no node of it answers" + among(v.silent)
	for id, info := range members {
		if info.ClusterId != cluster || !info.Configured {
			continue
		}
		if supersedes(info.Recoveries, own.Recoveries) && rt.raft.LastIndex() == 0 {
			return "being added to the recovered cluster", n.follow(info.Recoveries)
		}
		client, err := rt.peers.to(id)
		if err != nil {
			return "", err
		}
		asking, cancel := context.WithTimeout(ctx, changeTimeout)
		outcome, err := client.Join(asking, &clusterpb.JoinRequest{
			ServerId: n.ident.ServerID(), Address: n.cfg.address(), SupportedLevel: n.deps.supports,
		})
		cancel()
		switch {
		case err != nil:
			detail = err.Error()
		case outcome.Code != "":
			detail = outcome.Detail
		default:
			return "the cluster's log", nil
		}
	}
	return fmt.Sprintf("a place in cluster %s: %s", cluster, detail), nil
}

// admit adds a server as a non-voter, here or through the leader.
func (n *Node) admit(ctx context.Context, req *clusterpb.JoinRequest) error {
	rt := n.rt.Load()
	if rt == nil {
		return errNoLeader
	}
	if rt.raft.State() != raft.Leader {
		leader := n.leaderServer()
		if req.Forwarded || leader == "" {
			return errNoLeader
		}
		client, err := rt.peers.to(leader)
		if err != nil {
			return fmt.Errorf("%w: %w", errNoLeader, err)
		}
		outcome, err := client.Join(ctx, &clusterpb.JoinRequest{
			ServerId: req.ServerId, Address: req.Address, SupportedLevel: req.SupportedLevel, Forwarded: true,
		})
		if err != nil {
			return fmt.Errorf("%w: %w", errNoLeader, err)
		}
		return errorOf(outcome)
	}
	if nodeOf(req.GetServerId()) == "" || req.GetAddress() == "" {
		return fsm.Refusal(fsm.CodeInvalid, "a node joins with its id and address")
	}
	n.membership.Lock()
	defer n.membership.Unlock()
	servers := rt.servers()
	if slices.ContainsFunc(servers, func(s raft.Server) bool { return string(s.ID) == req.ServerId }) {
		return nil
	}
	if level := n.State().FeatureLevel(); levelOf(req) < level {
		return fsm.Refusal(fsm.CodeLevelUnsupported, "the cluster is at feature level %d, the node's binary supports %d: it needs a newer one", level, levelOf(req))
	}
	if len(servers) >= maxServers {
		return fsm.Refusal(fsm.CodeUnavailable, "the cluster has %d members already", len(servers))
	}
	n.log.Info("adding a node", "server_id", req.ServerId, "address", req.Address)
	err := changed(rt.raft.AddNonvoter(raft.ServerID(req.ServerId), transport.Address(req.ServerId, req.Address), 0, changeTimeout))
	if err == nil {
		n.recordMembership(ctx, rt, "it joined")
	}
	return err
}

// changed waits for a change of the configuration.
func changed(f raft.IndexFuture) error {
	err := f.Error()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrEnqueueTimeout):
		return errNotLeader
	}
	return fmt.Errorf("%w: %w", errUnknown, err)
}
