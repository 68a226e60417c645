package cluster

import (
	"github.com/org/envoy-control-plane/cluster/clusterpb"
)

// info is what the node says when it is probed.
func (n *Node) info() *clusterpb.NodeInfo {
	id := n.ident.get()
	out := &clusterpb.NodeInfo{
		ServerId: n.ident.ServerID(), ClusterId: id.ClusterId, Promise: id.Promise,
		Address: n.cfg.address(), Voter: n.willing(), Zone: n.cfg.Zone, Build: n.cfg.Build,
		ApiAddress: n.cfg.APIAddress, XdsAddress: n.cfg.XDSAddress,
		Index: n.State().Index(), Streams: uint32(n.deps.Streams()), Ready: n.Ready(),
		Recoveries: id.Recoveries,
		Clock:      n.deps.now().UnixNano(), Seed: n.seedOf(), Reason: n.degraded(), Stale: n.Stale(), Draining: n.deps.Draining(),
		SupportedLevel: n.deps.supports, Backup: n.deps.Backup(), Archive: n.deps.Archive(),
	}
	if rt := n.rt.Load(); rt != nil {
		out.Configured = len(rt.servers()) > 0
		out.Term, out.Leader = rt.raft.CurrentTerm(), n.leaderServer()
		out.Commit, out.Applied = rt.raft.CommitIndex(), rt.raft.AppliedIndex()
		out.DiskFull, out.SnapshotUnreadable = rt.stores.Short(), rt.stores.Unreadable() != nil
		out.OutOfRaft = n.failed.Load() != nil || rt.stores.Watch.Hanging() > n.cfg.StoreQuiet
		if servers, term, ok := n.committed(rt); ok && term == out.Term {
			for _, s := range servers {
				out.Members = append(out.Members, string(s.ID))
			}
			out.Plan = n.due.Load().String()
		}
	}
	return out
}
