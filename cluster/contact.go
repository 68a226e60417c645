package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/cluster/transport"
)

// watchContact has this node give its leader up as soon as that is due. Raft by
// itself looks only when a timer fires, after one to two heartbeat timeouts, and
// begins it anew where it is too early: a lost leader is noticed after up to three.
func (n *Node) watchContact(ctx context.Context) error {
	rt := n.rt.Load()
	if rt == nil {
		return nil // the node has stopped before this began
	}
	due := n.givesUpAt(rt)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Until(due)):
		}
		now := time.Now()
		switch at := n.givesUpAt(rt); {
		case at.After(now):
			due = at
		case now.Sub(due) > transport.GiveWay:
			// This process was kept from running: what the leader has sent meanwhile
			// may not be read yet.
			due = now.Add(transport.GiveWay)
		default:
			if err := rt.lookForLeader(); err != nil {
				n.log.Warn("cannot give up the leader at once", "error", err)
			}
			due = now.Add(n.cfg.Heartbeat)
		}
	}
}

// givesUpAt is when the leader is given up if it stays silent, or when to ask again.
func (n *Node) givesUpAt(rt *runtime) time.Time {
	_, leader := rt.raft.LeaderWithID()
	last := rt.raft.LastContact()
	if leader == "" || last.IsZero() || rt.raft.State() != raft.Follower {
		return time.Now().Add(n.cfg.Heartbeat)
	}
	n.followed.Store(&leader)
	return last.Add(n.cfg.Heartbeat)
}

// lookForLeader has Raft look at once whether the leader has been silent for too
// long: it does so when its heartbeat timeout is reduced.
func (rt *runtime) lookForLeader() error {
	c := rt.raft.ReloadableConfig()
	timeout := c.HeartbeatTimeout
	c.HeartbeatTimeout--
	err := rt.raft.ReloadConfig(c)
	c.HeartbeatTimeout = timeout
	return errors.Join(err, rt.raft.ReloadConfig(c))
}

// turn is how long this node waits before it asks another whether it would vote
// for it. Voters do so one after the other, by their ids, the lost leader left out:
// the one before has won by then, unless its log lacks something. And the first not
// before all have given that leader up, for whoever has one promises nothing:
// Raft's heartbeats are up to a fifth of the timeout apart.
func (n *Node) turn() time.Duration {
	rt, lost := n.rt.Load(), n.followed.Load()
	if rt == nil || lost == nil {
		return 0
	}
	wait := n.cfg.Heartbeat / 5
	for _, s := range rt.servers() {
		if s.Suffrage == raft.Voter && s.ID != *lost && string(s.ID) < n.ident.ServerID() {
			wait += transport.GiveWay
		}
	}
	return wait
}
