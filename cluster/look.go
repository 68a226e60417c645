package cluster

import (
	"context"
	"slices"
	"sync"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
)

// view is what the other nodes said when all that are known were asked.
type view struct {
	infos map[string]*clusterpb.NodeInfo // by server id, without this node
	// silent are the known nodes and addresses to join that did not answer.
	silent []string
}

// look asks every address to join and every member of gossip who it is.
func (n *Node) look(ctx context.Context, rt *runtime) view {
	addresses, unknown := rt.gossip.Addresses(ctx)
	v := view{infos: map[string]*clusterpb.NodeInfo{}, silent: unknown}
	members := rt.gossip.Members()
	self := n.ident.ServerID()
	byGossip := map[string]bool{}
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	unheard := map[string]bool{}
	for _, m := range members {
		byGossip[m.GossipAddress] = true
		if m.Meta.ServerId == self {
			continue
		}
		wg.Go(func() {
			info, err := probe(ctx, rt.peers, "@"+m.RaftAddress())
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				unheard[m.Meta.ServerId] = true
				return
			}
			if info.ServerId != self {
				v.infos[info.ServerId] = info
			}
		})
	}
	wg.Wait()
	for _, a := range addresses {
		if !byGossip[a] {
			v.silent = append(v.silent, a)
		}
	}
	for id := range unheard {
		// A node whose disk was wiped answers under its new incarnation.
		if !v.answered(nodeOf(id)) && nodeOf(id) != n.cfg.NodeID {
			v.silent = append(v.silent, id)
		}
	}
	slices.Sort(v.silent)
	return v
}

func (v view) answered(nodeID string) bool { return v.node(nodeID) != nil }

// node returns what a node answered, nil when it did not.
func (v view) node(nodeID string) *clusterpb.NodeInfo {
	for id, info := range v.infos {
		if nodeOf(id) == nodeID {
			return info
		}
	}
	return nil
}

// probe asks one server, or whoever has an address.
func probe(ctx context.Context, p *peers, key string) (*clusterpb.NodeInfo, error) {
	client, err := p.client(key)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return client.Probe(ctx, &clusterpb.ProbeRequest{})
}
