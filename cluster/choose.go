package cluster

import (
	"fmt"
	"slices"
	"strings"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
)

// choose returns the members of a new cluster, the coordinator first, or what
// is missing for it.
func (n *Node) choose(v view) (chosen []*clusterpb.Seed, wait string) {
	if len(n.cfg.InitialMembers) > 0 {
		return n.chooseInitial(v)
	}
	if len(v.silent) > 0 {
		return nil, "answers from " + strings.Join(v.silent, ", ")
	}
	if !n.cfg.NonVoter {
		chosen = append(chosen, n.seed())
	}
	nodes := map[string]bool{n.cfg.NodeID: true}
	for id, info := range v.infos {
		if nodes[nodeOf(id)] {
			return nil, fmt.Sprintf("one of two nodes with the id %s to go", nodeOf(id))
		}
		nodes[nodeOf(id)] = true
		if info.Promise != nil {
			return nil, "the bootstrap that " + id + " takes part in"
		}
		if info.Voter {
			chosen = append(chosen, seedOf(info))
		}
	}
	if len(chosen) < n.cfg.BootstrapExpect {
		return nil, fmt.Sprintf("%d more nodes", n.cfg.BootstrapExpect-len(chosen))
	}
	sortSeeds(chosen)
	chosen = chosen[:n.cfg.BootstrapExpect]
	if !slices.ContainsFunc(chosen, func(s *clusterpb.Seed) bool { return s.ServerId == n.ident.ServerID() }) {
		return nil, "the others' bootstrap, to join them"
	}
	return chosen, ""
}

func (n *Node) chooseInitial(v view) (chosen []*clusterpb.Seed, wait string) {
	if !slices.Contains(n.cfg.InitialMembers, n.cfg.NodeID) {
		return nil, "the initial members' cluster, to join it" + among(v.silent)
	}
	var missing []string
	for _, m := range n.cfg.InitialMembers {
		if m == n.cfg.NodeID {
			chosen = append(chosen, n.seed())
			continue
		}
		info := v.node(m)
		switch {
		case info == nil:
			missing = append(missing, m)
		case info.Promise != nil:
			return nil, "the bootstrap that " + m + " takes part in"
		default:
			chosen = append(chosen, seedOf(info))
		}
	}
	if len(missing) > 0 {
		return nil, "answers from " + strings.Join(missing, ", ")
	}
	sortSeeds(chosen)
	return chosen, ""
}

func sortSeeds(s []*clusterpb.Seed) {
	slices.SortFunc(s, func(a, b *clusterpb.Seed) int { return strings.Compare(a.ServerId, b.ServerId) })
}

func (n *Node) seed() *clusterpb.Seed {
	return &clusterpb.Seed{ServerId: n.ident.ServerID(), Address: n.cfg.address(), SupportedLevel: n.deps.supports}
}

func seedOf(info *clusterpb.NodeInfo) *clusterpb.Seed {
	return &clusterpb.Seed{ServerId: info.ServerId, Address: info.Address, SupportedLevel: info.SupportedLevel}
}

// chooseSeed returns the backup that the cluster goes on from, "" for none, or
// what is in the way.
func (n *Node) chooseSeed(v view) (seed, wait string) {
	seed = n.seedOf()
	for id, info := range v.infos {
		switch {
		case info.Seed == "" || info.Seed == seed:
		case seed != "":
			return "", fmt.Sprintf("one of two different backups to restore to go, %s has another one", nodeOf(id))
		default:
			seed = info.Seed
		}
	}
	return seed, ""
}

// newPromise makes up a cluster of this node, its coordinator, and others, that
// goes on from a backup when there is one.
func (n *Node) newPromise(others []*clusterpb.Seed, seed string) *clusterpb.Promise {
	return &clusterpb.Promise{
		ClusterId: randomID(8), Coordinator: n.ident.ServerID(), Seed: seed,
		Members: append([]*clusterpb.Seed{n.seed()}, others...),
	}
}
