package cluster

import (
	"context"
	"time"

	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
)

// refillEvery is how often a node whose disk was full tries to make its reserve
// again.
const refillEvery = time.Second

// shortage is what watchStore remembers of a full disk.
type shortage struct {
	said   bool
	filled time.Time // when Refill was last tried
}

// tendReserve has the reserve made again when it is gone, and says once that the
// disk is full, and once that it no longer is.
func (n *Node) tendReserve(rt *runtime, s *shortage) {
	if rt.stores.Short() && time.Since(s.filled) >= refillEvery {
		s.filled = time.Now()
		if err := rt.stores.Refill(); err != nil {
			n.log.Error("cannot make the reserve of the Raft log", "error", err)
		}
	}
	short := rt.stores.Short()
	switch {
	case short && !s.said:
		n.log.Error("the disk of the Raft log is full; its reserve keeps the cluster going and takes no writes", "data_dir", n.cfg.DataDir)
	case !short && s.said:
		n.log.Info("there is room on the disk of the Raft log again")
	}
	s.said = short
}

const crowdedReason = "writes are refused: there is no room on the disks of a majority of the voters"

// noRoom returns why the leader puts no commands into the log, nil when it does.
// Their room is what elections need: entries of Raft itself are never refused.
func (n *Node) noRoom(rt *runtime) error {
	switch {
	case n.crowded.Load():
		return errFull
	case rt.stores.Short():
		return errNotLeader // it hands over, or is crowded, at the next look
	}
	return nil
}

// tendRoom finds out, on the leader, whether a majority's disks have room. If
// only its own has none, it hands over. One that does not answer counts as full
// once another one is: what it cannot take, the other's reserve would have to.
func (n *Node) tendRoom(ctx context.Context, rt *runtime, servers []raft.Server, infos map[string]*clusterpb.NodeInfo) {
	full, heir := roomOf(servers, infos)
	crowded := full && heir == ""
	switch was := n.crowded.Swap(crowded); {
	case crowded && !was:
		n.log.Error(crowdedReason)
	case !crowded && was:
		n.log.Info("a majority of the voters has room again, writes go on")
	}
	if !full || crowded || !rt.stores.Short() {
		return
	}
	n.log.Info("handing over to a node whose disk has room", "to", heir)
	if err := n.transferHere(ctx, nodeOf(heir)); err != nil {
		n.log.Warn("cannot hand over to a node whose disk has room", "error", err)
	}
}

// roomOf reports whether a voter's disk is full, and names the best one of those
// with room if these are a majority.
func roomOf(servers []raft.Server, infos map[string]*clusterpb.NodeInfo) (full bool, heir string) {
	voters, roomy := 0, 0
	for _, s := range servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		info := infos[string(s.ID)]
		full = full || info.GetDiskFull()
		if info != nil && !info.DiskFull && !info.OutOfRaft {
			roomy++
		}
	}
	if 2*roomy <= voters {
		return full, ""
	}
	return full, heirOf(servers, infos, func(*clusterpb.NodeInfo) bool { return true })
}
