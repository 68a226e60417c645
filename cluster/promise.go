package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
)

// The first start is a commit in two phases. Each member that the coordinator
// has chosen promises, on disk, to take part in this bootstrap and in no other;
// once all have, the coordinator decides, on disk. Only the coordinator ever
// decides, for or against; everybody else holds the promise until it is known
// how that went. Two bootstraps that share a member can therefore not both
// come about, whatever each of their coordinators sees of the network.

// errRefused is a promise that cannot be given; its text says why.
var errRefused = errors.New("refused")

// promise takes part in a bootstrap, or returns why not.
func (n *Node) promise(p *clusterpb.Promise) (refusal string) {
	rt := n.rt.Load()
	if rt == nil || len(rt.servers()) > 0 {
		return "it is not ready, or has a Raft configuration"
	}
	self := n.ident.ServerID()
	err := n.ident.update(func(id *clusterpb.Identity) error {
		switch {
		case proto.Equal(id.Promise, p):
			return nil
		case id.ClusterId != "":
			return fmt.Errorf("it belongs to cluster %s: %w", id.ClusterId, errRefused)
		case id.Promise != nil:
			return fmt.Errorf("it has promised to take part in %s: %w", id.Promise.ClusterId, errRefused)
		}
		if err := n.mayPromise(self, p); err != nil {
			return err
		}
		id.Promise = p
		return nil
	})
	if err != nil {
		return err.Error()
	}
	return ""
}

// mayPromise checks a promise against who the node is and how it was started.
func (n *Node) mayPromise(self string, p *clusterpb.Promise) error {
	var names []string
	member := false
	for _, m := range p.GetMembers() {
		names = append(names, nodeOf(m.ServerId))
		member = member || m.ServerId == self
	}
	switch {
	case p.GetClusterId() == "" || p.GetCoordinator() == "" || !member:
		return fmt.Errorf("it is %s, which is not one of the members: %w", self, errRefused)
	case n.cfg.BootstrapExpect == 0 && len(n.cfg.InitialMembers) == 0:
		return fmt.Errorf("it only joins: %w", errRefused)
	case len(n.cfg.InitialMembers) > 0:
		want := slices.Clone(n.cfg.InitialMembers)
		slices.Sort(want)
		slices.Sort(names)
		if !slices.Equal(want, names) {
			return fmt.Errorf("its initial members are %s: %w", strings.Join(want, ", "), errRefused)
		}
	case len(names) != n.cfg.BootstrapExpect:
		return fmt.Errorf("it expects %d nodes: %w", n.cfg.BootstrapExpect, errRefused)
	}
	return nil
}

// pursue collects the promises and decides. One refusal decides against: the
// others drop theirs when they ask.
func (n *Node) pursue(ctx context.Context, rt *runtime, p *clusterpb.Promise) (wait string, err error) {
	type vote struct {
		from    string
		refusal string
		err     error
	}
	votes := make(chan vote, len(p.Members))
	asked := 0
	for _, m := range p.Members {
		if m.ServerId == n.ident.ServerID() {
			continue
		}
		asked++
		go func() {
			refusal, err := askPromise(ctx, rt.peers, m, p)
			votes <- vote{nodeOf(m.ServerId), refusal, err}
		}()
	}
	var refused, silent []string
	for range asked {
		switch v := <-votes; {
		case v.err != nil:
			silent = append(silent, v.from)
		case v.refusal != "":
			refused = append(refused, v.from+": "+v.refusal)
		}
	}
	if len(refused) > 0 {
		n.log.Info("bootstrap given up", "cluster_id", p.ClusterId, "reasons", refused)
		err := n.dropPromise(p)
		stagger(ctx)
		return "another try", err
	}
	if len(silent) > 0 {
		slices.Sort(silent)
		return "the promise of " + strings.Join(silent, ", "), nil
	}
	return "", n.decide(rt, p)
}

func askPromise(ctx context.Context, peers *peers, m *clusterpb.Seed, p *clusterpb.Promise) (refusal string, err error) {
	client, err := peers.at(m.Address)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	reply, err := client.Promise(ctx, &clusterpb.PromiseRequest{Promise: p})
	if err != nil {
		return "", err
	}
	if reply.Info.GetServerId() != m.ServerId && reply.Refusal == "" {
		return "it is " + reply.Info.GetServerId(), nil
	}
	return reply.Refusal, nil
}

// dropPromise forgets a promise, if the node still holds just that one.
func (n *Node) dropPromise(p *clusterpb.Promise) error {
	err := n.ident.update(func(id *clusterpb.Identity) error {
		if id.ClusterId != "" || !proto.Equal(id.Promise, p) {
			return errBusy
		}
		id.Promise = nil
		return nil
	})
	if errors.Is(err, errBusy) {
		return nil
	}
	return err
}

// await waits, as a member, for what becomes of a promise.
func (n *Node) await(ctx context.Context, rt *runtime, p *clusterpb.Promise) (wait string, err error) {
	infos := map[string]*clusterpb.NodeInfo{} // by the asked server's id
	type answer struct {
		asked string
		info  *clusterpb.NodeInfo
	}
	answers := make(chan answer, len(p.Members))
	asked := 0
	for _, m := range p.Members {
		if m.ServerId == n.ident.ServerID() {
			continue
		}
		asked++
		go func() {
			info, err := probe(ctx, rt.peers, "@"+m.Address)
			if err != nil {
				info = nil
			}
			answers <- answer{m.ServerId, info}
		}()
	}
	for range asked {
		if a := <-answers; a.info != nil {
			infos[a.asked] = a.info
		}
	}
	if !decidedAgainst(p, infos, asked) {
		return "the bootstrap by " + nodeOf(p.Coordinator), nil
	}
	n.log.Info("bootstrap was given up by its coordinator", "cluster_id", p.ClusterId)
	return "another try", n.dropPromise(p)
}

// decidedAgainst reports whether a bootstrap can no longer come about: its
// coordinator says that it has given it up; or the coordinator's disk is gone
// (its node answers as another incarnation), and of the other members, all of
// which have answered, none has become part of the cluster.
func decidedAgainst(p *clusterpb.Promise, infos map[string]*clusterpb.NodeInfo, others int) bool {
	c := infos[p.Coordinator]
	if c == nil {
		return false
	}
	if c.ServerId == p.Coordinator {
		return c.ClusterId != p.ClusterId && c.Promise.GetClusterId() != p.ClusterId
	}
	if len(infos) < others || nodeOf(c.ServerId) != nodeOf(p.Coordinator) {
		return false
	}
	for _, info := range infos {
		if info.ClusterId == p.ClusterId {
			return false
		}
	}
	return true
}
