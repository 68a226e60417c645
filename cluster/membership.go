package cluster

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
)

// maxLag is how many entries behind counts as caught up.
const maxLag = 64

// keepMembership looks, on the leader, after the Raft configuration. It is the
// place where an autopilot will decide instead of plan. Between two looks the
// log settles.
func (n *Node) keepMembership(ctx context.Context) error {
	tick := time.NewTicker(n.cfg.Membership)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		rt := n.rt.Load()
		if rt == nil {
			continue
		}
		n.prunePeers(rt)
		if term, _ := n.lead.get(); term != 0 {
			n.tend(ctx, rt)
			n.settle(rt.raft)
		}
	}
}

// prunePeers closes connections to servers that are gone, once the first
// start is over.
func (n *Node) prunePeers(rt *runtime) {
	keep := map[string]bool{}
	for _, s := range rt.servers() {
		keep[string(s.ID)] = true
	}
	if len(keep) > 0 && n.waitsFor.Load() == nil {
		rt.peers.keep(keep)
	}
}

// tend makes the change that is due, one at a time.
func (n *Node) tend(ctx context.Context, rt *runtime) {
	commit := rt.raft.CommitIndex()
	servers := rt.servers()
	infos := n.probeAll(ctx, rt, servers)
	n.measureSkew(infos)
	what, id := plan(n.standings(servers, infos, commit))
	if what == nothing {
		return
	}
	n.membership.Lock()
	defer n.membership.Unlock()
	at := slices.IndexFunc(servers, func(s raft.Server) bool { return string(s.ID) == id })
	if at < 0 || !slices.Equal(servers, rt.servers()) {
		return
	}
	var err error
	if what == promote {
		n.log.Info("promoting a node to voter", "server_id", id)
		err = changed(rt.raft.AddVoter(servers[at].ID, servers[at].Address, 0, changeTimeout))
	} else {
		n.log.Info("removing a past incarnation", "server_id", id)
		err = changed(rt.raft.RemoveServer(servers[at].ID, 0, changeTimeout))
	}
	if err != nil {
		n.log.Warn("change of the membership failed", "server_id", id, "error", err)
	}
}

// probeAll asks servers how they are, this one included; those that do not
// answer are left out.
func (n *Node) probeAll(ctx context.Context, rt *runtime, servers []raft.Server) map[string]*clusterpb.NodeInfo {
	infos := map[string]*clusterpb.NodeInfo{}
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	for _, s := range servers {
		id := string(s.ID)
		wg.Go(func() {
			info := n.info()
			if id != n.ident.ServerID() {
				var err error
				if info, err = probe(ctx, rt.peers, id); err != nil || info.ServerId != id {
					return
				}
			}
			mu.Lock()
			defer mu.Unlock()
			infos[id] = info
		})
	}
	wg.Wait()
	return infos
}

func (n *Node) standings(servers []raft.Server, infos map[string]*clusterpb.NodeInfo, commit uint64) []standing {
	out := make([]standing, 0, len(servers))
	for _, s := range servers {
		info := infos[string(s.ID)]
		out = append(out, standing{
			serverID: string(s.ID), voter: s.Suffrage == raft.Voter, alive: info != nil,
			willing: info.GetVoter(), caughtUp: info != nil && info.Applied+maxLag >= commit && info.Applied > 0,
		})
	}
	return out
}

// measureSkew compares this clock with the others'. With two or more of them
// the median cannot be moved by one that is off.
func (n *Node) measureSkew(infos map[string]*clusterpb.NodeInfo) {
	now := n.deps.now().UnixNano()
	var off []int64
	for id, info := range infos {
		if id != n.ident.ServerID() && info.Clock != 0 {
			off = append(off, now-info.Clock)
		}
	}
	if len(off) == 0 {
		n.skew.Store(0)
		return
	}
	slices.Sort(off)
	n.skew.Store(off[(len(off)-1)/2])
}
