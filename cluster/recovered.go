package cluster

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
)

// supersedes reports whether data that has gone through some recoveries is
// what the others' became: it has gone through theirs and later ones.
func supersedes(recoveries, others []string) bool {
	return len(recoveries) > len(others) && slices.Equal(recoveries[:len(others)], others)
}

// stranger returns why a server is no part of this node's cluster, "" when it
// is or when one of the two belongs to none yet.
func (n *Node) stranger(serverID, clusterID string, recoveries []string) string {
	id := n.ident.get()
	if id.ClusterId == "" || clusterID == "" {
		return ""
	}
	if clusterID != id.ClusterId {
		return fmt.Sprintf("this node belongs to cluster %s, not %s", id.ClusterId, clusterID)
	}
	const aside = "its data directory must be moved aside, it then joins as a new incarnation"
	switch {
	case slices.Equal(recoveries, id.Recoveries):
		return ""
	case supersedes(recoveries, id.Recoveries):
		reason := fmt.Sprintf("the cluster was recovered (%s) without the data of %s: %s", newest(recoveries), n.ident.ServerID(), aside)
		if old := n.outdated.Swap(&reason); old == nil || *old != reason {
			n.log.Error("this node is no part of its cluster any more", "reason", reason, "told_by", serverID)
		}
		return reason
	}
	reason := fmt.Sprintf("%s has gone through another recovery of the cluster (%s) than %s (%s): only one can go on",
		serverID, cmp.Or(newest(recoveries), "none"), n.ident.ServerID(), cmp.Or(newest(id.Recoveries), "none"))
	if supersedes(id.Recoveries, recoveries) {
		reason = fmt.Sprintf("the cluster was recovered (%s) without the data of %s: %s", newest(id.Recoveries), serverID, aside)
	}
	now := time.Now().UnixNano()
	if said := n.strangers.Load(); now-said > int64(sayEvery) && n.strangers.CompareAndSwap(said, now) {
		n.log.Warn("refusing a node", "reason", reason)
	}
	return reason
}

// Believe implements transport.Gatekeeper.
func (n *Node) Believe(w *clusterpb.Welcome) string {
	return n.stranger(w.ServerId, w.ClusterId, w.Recoveries)
}

// newest returns the last recovery, "" before the first.
func newest(recoveries []string) string {
	if len(recoveries) == 0 {
		return ""
	}
	return recoveries[len(recoveries)-1]
}

// strangersEvery is how often a node looks for those of another recovery.
const strangersEvery = 2 * time.Second

// meetStrangers asks the nodes of this cluster that gossip has with another
// recovery: one of the two sides is to be moved aside, and only the whole list
// tells which. Lost nodes that are a majority of the old voters would else go
// on among themselves without a word.
func (n *Node) meetStrangers(ctx context.Context) error {
	rt := n.rt.Load()
	for pause(ctx, strangersEvery) {
		id := n.ident.get()
		if id.ClusterId == "" || n.outdated.Load() != nil {
			continue
		}
		for _, m := range rt.gossip.Members() {
			if m.Meta.ClusterId != id.ClusterId || m.Meta.Recovery == newest(id.Recoveries) {
				continue
			}
			if _, err := probe(ctx, rt.peers, "@"+m.RaftAddress()); err != nil { // Believe hears who it is
				n.log.Debug("a node of another recovery does not answer", "server_id", m.Meta.ServerId, "error", err)
			}
		}
	}
	return nil
}

// members returns the nodes that belong to a cluster, without those whose
// cluster was recovered without them. wait is not empty when two of them have
// gone through different recoveries of one cluster.
func (v view) members() (members map[string]*clusterpb.NodeInfo, wait string) {
	members = map[string]*clusterpb.NodeInfo{}
	for id, info := range v.infos {
		if info.ClusterId != "" && !v.outdated(info) {
			members[id] = info
		}
	}
	for a, info := range members {
		for b, other := range members {
			if info.ClusterId == other.ClusterId && !slices.Equal(info.Recoveries, other.Recoveries) {
				return nil, fmt.Sprintf("%s or %s to go: they have gone through different recoveries of cluster %s", min(a, b), max(a, b), info.ClusterId)
			}
		}
	}
	return members, ""
}

func (v view) outdated(info *clusterpb.NodeInfo) bool {
	for _, other := range v.infos {
		if other.ClusterId == info.ClusterId && supersedes(other.Recoveries, info.Recoveries) {
			return true
		}
	}
	return false
}

// follow makes a node without data, which had asked nodes of before a
// recovery, one of the cluster that was recovered.
func (n *Node) follow(recoveries []string) error {
	err := n.ident.update(func(id *clusterpb.Identity) error {
		id.Recoveries = recoveries
		return nil
	})
	if err != nil {
		return err
	}
	n.outdated.Store(nil)
	n.log.Info("the cluster was recovered, joining that one", "recovery", newest(recoveries))
	return nil
}
