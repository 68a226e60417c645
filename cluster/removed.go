package cluster

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
	"github.com/org/envoy-control-plane/fsm"
)

// askPlace is how often a node that hears of no leader asks whether it still
// has a place in the cluster.
const askPlace = time.Second

const removedReason = "the cluster has removed this node: stop it for good, or empty its data directory so that it joins anew"

// removed reports whether the cluster has removed this incarnation.
func (n *Node) removed() bool { return n.ident.get().Removed }

// watchPlace finds out that the node was removed: nobody sends its log to it
// any more, so it asks. The mark is kept on disk; such a node is not ready,
// hands its xDS streams over and never asks to be added again.
func (n *Node) watchPlace(ctx context.Context) error {
	if n.removed() {
		n.log.Error(removedReason)
		return nil
	}
	for pause(ctx, askPlace) {
		if n.ready.Load() {
			n.forgetPromise()
			n.noteAdmitted()
		}
		rt := n.rt.Load()
		if rt == nil || len(rt.servers()) == 0 || n.waitsFor.Load() != nil || n.failed.Load() != nil || n.leaderServer() != "" {
			continue
		}
		by := n.excludedBy(n.look(ctx, rt), rt.raft)
		switch {
		case by == "":
		case n.ident.get().Admitted:
			if n.acceptRemoval(by) {
				return nil
			}
		default:
			// It never was a member: what its log says of that was lost with
			// the leader that wrote it.
			if _, err := n.join(ctx, rt); err != nil {
				n.log.Warn("cannot join the cluster again", "error", err)
			}
		}
	}
	return nil
}

// excludedBy returns the leader that knows the cluster without this node, ""
// for none. A leader of an older term than this node's may not know of it yet.
func (n *Node) excludedBy(v view, r *raft.Raft) string {
	for id, info := range v.infos {
		if info.ClusterId == n.ident.ClusterID() && len(info.Members) > 0 && info.Term >= r.CurrentTerm() &&
			!slices.Contains(info.Members, n.ident.ServerID()) {
			return id
		}
	}
	return ""
}

// acceptRemoval reports whether the mark is on disk.
func (n *Node) acceptRemoval(by string) bool {
	err := n.ident.update(func(id *clusterpb.Identity) error {
		id.Removed = true
		return nil
	})
	if err != nil {
		n.log.Error("cannot note that the cluster has removed this node", "told_by", by, "error", err)
		return false
	}
	n.log.Error(removedReason, "told_by", by)
	if n.deps.SetDraining != nil {
		n.deps.SetDraining(true, 0)
	}
	return true
}

// noteAdmitted keeps on disk that the node has been a member. Binaries of the
// first feature level cannot read that, and may have to go on from this disk.
// A full disk must not end the node: watchPlace tries again.
func (n *Node) noteAdmitted() {
	if n.ident.get().Admitted || n.State().FeatureLevel() == fsm.BaseLevel {
		return
	}
	err := n.ident.update(func(id *clusterpb.Identity) error {
		id.Admitted = true
		return nil
	})
	if err != nil {
		n.log.Warn("cannot note that this node is a member", "error", err)
	}
}
