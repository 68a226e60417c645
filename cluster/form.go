package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
	"github.com/org/envoy-control-plane/cluster/store"
	"github.com/org/envoy-control-plane/cluster/transport"
)

const (
	// formEvery grows to formRarely while nothing changes: each step looks
	// names up.
	formEvery    = 150 * time.Millisecond
	formRarely   = 2 * time.Second
	probeTimeout = time.Second
	// sayEvery is how often the log repeats what a first start waits for.
	sayEvery = 10 * time.Second
)

// form brings a node without a Raft configuration into a cluster: it takes
// part in making one, or joins the one that there is. It ends once the node
// has a configuration.
func (n *Node) form(ctx context.Context) error {
	said, every := time.Time{}, formEvery
	for {
		wait, err := n.formStep(ctx)
		if store.IsFull(err) {
			wait, err = "room on the disk: "+err.Error(), nil // nothing was decided without it
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		if wait == "" {
			n.waitsFor.Store(nil)
			return nil
		}
		old := n.waitsFor.Swap(&wait)
		if every = min(every*11/10, formRarely); old == nil || *old != wait {
			every = formEvery
		}
		if old == nil || *old != wait || time.Since(said) > sayEvery {
			if time.Since(said) > time.Second {
				n.log.Info("first start waits", "for", wait)
				said = time.Now()
			}
		}
		if !pause(ctx, every) {
			return nil
		}
	}
}

// formStep makes one step and returns what it waits for, "" when done.
func (n *Node) formStep(ctx context.Context) (wait string, err error) {
	rt := n.rt.Load()
	if rt == nil {
		return "the node to start", nil
	}
	id := n.ident.get()
	if len(rt.servers()) > 0 {
		n.forgetPromise()
		return "", nil
	}
	switch p := id.Promise; {
	case id.ClusterId != "" && p.GetClusterId() == id.ClusterId && p.GetCoordinator() == n.ident.ServerID():
		return "", n.bootstrap(rt, p) // decided before a crash
	case id.ClusterId != "" && p.GetClusterId() == id.ClusterId:
		return "the first leader's log", nil
	case id.ClusterId != "":
		return n.join(ctx, rt)
	case p != nil && p.Coordinator == n.ident.ServerID():
		return n.pursue(ctx, rt, p)
	case p != nil:
		return n.await(ctx, rt, p)
	}
	if n.formsAlone() {
		return "", n.decide(rt, n.newPromise(nil, n.seedOf()))
	}
	return n.gatherMembers(ctx, rt)
}

func (n *Node) formsAlone() bool {
	m := n.cfg.InitialMembers
	return n.cfg.BootstrapExpect == 1 && len(n.cfg.Join) == 0 && (len(m) == 0 || (len(m) == 1 && m[0] == n.cfg.NodeID))
}

// forgetPromise ends the first start. A promise that was kept binds nobody any
// more; while the disk is full, or has failed, it stays: watchPlace tries again.
func (n *Node) forgetPromise() {
	p := n.ident.get().Promise
	if p == nil {
		return
	}
	n.foundedAt.Store(foundingLevel(p))
	err := n.ident.update(func(id *clusterpb.Identity) error {
		id.Promise = nil
		return nil
	})
	if err != nil {
		n.log.Warn("cannot note that the first start is over", "error", err)
	}
}

// gatherMembers looks for a cluster to join, and else for the members of a new
// one. Any cluster that answers is a veto.
func (n *Node) gatherMembers(ctx context.Context, rt *runtime) (wait string, err error) {
	v := n.look(ctx, rt)
	members, wait := v.members()
	if wait != "" {
		return wait, nil
	}
	for id, info := range members {
		if !info.Configured {
			return fmt.Sprintf("%s to come up in cluster %s", id, info.ClusterId), nil
		}
		err := n.ident.update(func(id *clusterpb.Identity) error {
			if id.Promise != nil || id.ClusterId != "" {
				return errBusy
			}
			id.ClusterId, id.Recoveries = info.ClusterId, info.Recoveries
			return nil
		})
		if err != nil && !errors.Is(err, errBusy) {
			return "", err
		}
		n.log.Info("there is a cluster already, joining it", "cluster_id", info.ClusterId, "told_by", id)
		return "being added to the cluster", nil
	}
	if n.cfg.BootstrapExpect == 0 && len(n.cfg.InitialMembers) == 0 {
		return "a cluster to join" + among(v.silent), nil
	}
	chosen, wait := n.choose(v)
	if wait != "" {
		return wait, nil
	}
	if chosen[0].ServerId != n.ident.ServerID() {
		return nodeOf(chosen[0].ServerId) + " to start the bootstrap", nil
	}
	seed, wait := n.chooseSeed(v)
	if wait != "" {
		return wait, nil
	}
	p := n.newPromise(chosen[1:], seed)
	err = n.ident.update(func(id *clusterpb.Identity) error {
		if id.Promise != nil || id.ClusterId != "" {
			return errBusy
		}
		id.Promise = p
		return nil
	})
	if errors.Is(err, errBusy) {
		return "another bootstrap", nil
	}
	if err != nil {
		return "", err
	}
	return n.pursue(ctx, rt, p)
}

var errBusy = errors.New("another bootstrap came first")

func among(silent []string) string {
	if len(silent) == 0 {
		return ""
	}
	return "; no answer from " + strings.Join(silent, ", ")
}

// decide makes the promised cluster real. From the write on there is no way
// back; a crash behind it is made up for at the next start.
func (n *Node) decide(rt *runtime, p *clusterpb.Promise) error {
	err := n.ident.update(func(id *clusterpb.Identity) error {
		if id.ClusterId != "" || (id.Promise != nil && !proto.Equal(id.Promise, p)) {
			return fmt.Errorf("bootstrap %s: %w", p.ClusterId, errBusy)
		}
		id.ClusterId, id.Promise, id.Seed = p.ClusterId, p, p.Seed
		return nil
	})
	if err != nil {
		return err
	}
	return n.bootstrap(rt, p)
}

func (n *Node) bootstrap(rt *runtime, p *clusterpb.Promise) error {
	var c raft.Configuration
	for _, m := range p.Members {
		c.Servers = append(c.Servers, raft.Server{
			Suffrage: raft.Voter, ID: raft.ServerID(m.ServerId), Address: transport.Address(m.ServerId, m.Address),
		})
	}
	if err := rt.raft.BootstrapCluster(c).Error(); err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
		return fmt.Errorf("bootstrap: %w", err)
	}
	n.log.Info("made a new cluster", "cluster_id", p.ClusterId, "members", len(p.Members))
	rt.trans.Campaign()
	n.forgetPromise()
	return nil
}

// stagger keeps two coordinators from meeting again at once.
func stagger(ctx context.Context) {
	pause(ctx, 100*time.Millisecond+rand.N(400*time.Millisecond))
}
