package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
)

// renewEvery is how long a node leaves it at a snapshot that cannot be read
// until it tries again to make another.
const renewEvery = 5 * time.Second

// renewSnapshot makes a new snapshot when Raft has found the newest one to be
// unreadable: Raft only tries to send it again and again, so that a follower
// that needs it is never brought up. A leader that cannot make one hands over.
func (n *Node) renewSnapshot(ctx context.Context) error {
	rt := n.rt.Load()
	var tried time.Time
	for pause(ctx, n.cfg.Membership) {
		bad := rt.stores.Unreadable()
		if bad == nil || n.failed.Load() != nil || time.Since(tried) < renewEvery {
			continue
		}
		tried = time.Now()
		n.log.Error("a snapshot cannot be read, making a new one; let doctor examine the data directory at the next stop", "error", bad)
		err := waitFuture(ctx, rt.raft.Snapshot())
		if err == nil {
			continue
		}
		n.log.Error("cannot make a snapshot in place of one that cannot be read", "error", err)
		if term, _ := n.lead.get(); term == 0 {
			continue
		}
		servers := rt.servers()
		heir := heirOf(servers, n.probeAll(ctx, rt, servers), func(info *clusterpb.NodeInfo) bool { return !info.SnapshotUnreadable })
		if heir == "" {
			continue
		}
		n.log.Info("handing over to a node that can bring up the others", "to", heir)
		if err := n.transferHere(ctx, nodeOf(heir)); err != nil {
			n.log.Warn("cannot hand over to a node that can bring up the others", "error", err)
		}
	}
	return nil
}

// heirOf returns the voter to hand over to: of those that are fit, the one that
// has applied most; "" for none.
func heirOf(servers []raft.Server, infos map[string]*clusterpb.NodeInfo, fit func(*clusterpb.NodeInfo) bool) (heir string) {
	for _, s := range servers {
		info := infos[string(s.ID)]
		if s.Suffrage != raft.Voter || info == nil || info.OutOfRaft || info.DiskFull || !fit(info) {
			continue
		}
		if heir == "" || info.Applied > infos[heir].Applied {
			heir = string(s.ID)
		}
	}
	return heir
}

// unreadable says that a snapshot cannot be read, "" when all can as far as is
// known.
func (rt *runtime) unreadable() string {
	err := rt.stores.Unreadable()
	if err == nil {
		return ""
	}
	return fmt.Sprintf("a snapshot cannot be read and no other has been made (%v): stop the node and let doctor examine its data directory", err)
}
