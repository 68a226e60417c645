package cluster

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
)

// keepMembership looks, on the leader, after the Raft configuration. Between
// two looks the log settles.
func (n *Node) keepMembership(ctx context.Context) error {
	seen := &attendance{replaceAfter: n.cfg.ReplaceAfter, forgetAfter: n.cfg.ForgetAfter}
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
			n.tend(ctx, rt, seen, term)
			n.settle(rt)
		} else {
			n.crowded.Store(false)
		}
	}
}

// prunePeers closes connections to servers that are gone, once the first
// start is over. A node that hears of no leader needs them: it asks whether it
// was removed.
func (n *Node) prunePeers(rt *runtime) {
	keep := map[string]bool{}
	for _, s := range rt.servers() {
		keep[string(s.ID)] = true
	}
	if len(keep) > 0 && n.waitsFor.Load() == nil && n.leaderServer() != "" {
		rt.peers.keep(keep)
	}
}

// tend makes the change that is due, one at a time: each is committed before
// the next one is thought of.
func (n *Node) tend(ctx context.Context, rt *runtime, seen *attendance, term uint64) {
	n.recordIfQuiet(ctx, rt)
	commit := rt.raft.CommitIndex()
	servers := rt.servers()
	infos := n.probeAll(ctx, rt, servers)
	n.measureSkew(infos)
	n.tendRoom(ctx, rt, servers, infos)
	due := plan(seen.look(term, time.Now(), n.standings(servers, infos, commit)))
	n.due.Store(&due)
	if due.change == nothing {
		return
	}
	if due.change == demote && due.id == n.ident.ServerID() {
		n.log.Info("handing over, to give up the vote", "why", due.why)
		if err := n.transferHere(ctx, ""); err != nil {
			n.log.Warn("change of the membership failed", "error", err)
		}
		return
	}
	n.membership.Lock()
	defer n.membership.Unlock()
	if now, _ := n.lead.get(); now != term || !slices.Equal(servers, rt.servers()) {
		return
	}
	n.log.Info("changing the membership", "change", due.change, "server_id", due.id, "why", due.why)
	at := slices.IndexFunc(servers, func(s raft.Server) bool { return string(s.ID) == due.id })
	if err := n.make(rt, due.change, servers[at]); err != nil {
		n.log.Warn("change of the membership failed", "server_id", due.id, "error", err)
		return
	}
	n.recordMembership(ctx, rt, due.why)
}

// make makes one change of the configuration; n.membership is held.
func (n *Node) make(rt *runtime, c change, s raft.Server) error {
	var f raft.IndexFuture
	switch c {
	case promote:
		f = rt.raft.AddVoter(s.ID, s.Address, 0, changeTimeout)
	case demote:
		f = rt.raft.DemoteVoter(s.ID, 0, changeTimeout)
	case remove:
		f = rt.raft.RemoveServer(s.ID, 0, changeTimeout)
	case nothing:
		return nil
	}
	err := changed(f)
	if err == nil {
		n.metrics.changes.WithLabelValues(c.String()).Inc()
	}
	return err
}

// committed returns the configuration if this node leads and it is committed,
// which it is while the node leads and changes nothing.
func (n *Node) committed(rt *runtime) (servers []raft.Server, term uint64, ok bool) {
	if !n.membership.TryLock() {
		return nil, 0, false
	}
	defer n.membership.Unlock()
	term, _ = n.lead.get()
	servers = rt.servers()
	return servers, term, term != 0 && rt.raft.State() == raft.Leader && rt.raft.CurrentTerm() == term
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
