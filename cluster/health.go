package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// Health is what readiness says of the cluster.
type Health struct {
	// Ready is a latch: the node has caught up with what was acknowledged
	// before its start. Losing the leader later does not reset it, being
	// removed from the cluster does.
	Ready bool
	// Leader is the leader's node id, "" while none is known.
	Leader string
	// Reasons say why the node is not ready, or degraded; empty when it is
	// well.
	Reasons []string
}

// Ready reports whether the node has caught up since its start, and is a
// member of the cluster still.
func (n *Node) Ready() bool { return n.ready.Load() && !n.removed() }

// Health returns the node's present health.
func (n *Node) Health() Health {
	h := Health{Ready: n.Ready(), Leader: n.LeaderID()}
	if w := n.waitsFor.Load(); w != nil {
		h.Reasons = append(h.Reasons, "the first start waits for "+*w)
	} else if !h.Ready && !n.removed() {
		h.Reasons = append(h.Reasons, "catching up with the cluster")
	}
	if reason := n.degraded(); reason != "" {
		h.Reasons = append(h.Reasons, reason)
	}
	return h
}

// degraded says what is wrong with a node that has started, "" for nothing.
func (n *Node) degraded() string {
	if f := n.failed.Load(); f != nil {
		return *f
	}
	if o := n.outdated.Load(); o != nil {
		return *o
	}
	if n.removed() {
		return removedReason
	}
	rt := n.rt.Load()
	if rt == nil {
		return "the node is not running"
	}
	if hang := rt.stores.Watch.Hanging(); hang > n.cfg.StoreQuiet/3 {
		return fmt.Sprintf("a write to the Raft store has been hanging for %s", hang.Round(100*time.Millisecond))
	}
	if rt.stores.Watch.Full() {
		return "there is no room on the disk of the Raft log, and its reserve is used up: it stores nothing until there is room"
	}
	if rt.stores.Short() {
		return "there is no room on the disk of the Raft log: it takes no writes until there is room"
	}
	if n.crowded.Load() {
		return crowdedReason
	}
	if bad := rt.unreadable(); bad != "" {
		return bad
	}
	if n.leaderServer() == "" {
		return "no leader"
	}
	if last := rt.raft.LastContact(); rt.raft.State() != raft.Leader && time.Since(last) > 2*time.Second {
		return fmt.Sprintf("the leader has not been heard of for %s", time.Since(last).Round(time.Second))
	}
	return ""
}

// becomeReady sets the latch.
func (n *Node) becomeReady(ctx context.Context) error {
	for ctx.Err() == nil && !n.ready.Load() && !n.removed() {
		index, err := n.ReadIndex(ctx)
		if err == nil {
			if st, err := n.machine.wait(ctx, index); err == nil && st.Identity().GetClusterId() != "" {
				n.noteAdmitted()
				n.ready.Store(true)
				n.log.Info("ready", "cluster_id", st.Identity().GetClusterId(),
					"index", st.Index(), "after", time.Since(n.start).Round(time.Millisecond))
				return nil
			}
		}
		pause(ctx, 10*time.Millisecond)
	}
	return nil
}
