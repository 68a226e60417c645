package statefulset

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/deploy/history"
	"github.com/org/envoy-control-plane/deploy/load"
)

// whole returns nil when every pod sees the same leader, all pods healthy, and
// those alone by gossip.
func (w *world) whole() error {
	leader, pods := "", w.set.all()
	for _, p := range pods {
		said, err := w.asks(p)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if said.Leader == "" || leader != "" && said.Leader != leader {
			return fmt.Errorf("%s follows %q, others %q", p.name, said.Leader, leader)
		}
		leader = said.Leader
		if err := rightVoters(p, said); err != nil {
			return err
		}
		if alive, err := w.gossips(p); err != nil || alive != len(pods) {
			return fmt.Errorf("%s has %d members by gossip of %d: %w", p.name, alive, len(pods), err)
		}
		for _, other := range pods {
			i := slices.IndexFunc(said.Nodes, func(n wire.Node) bool { return n.ID == other.name })
			if i < 0 || !said.Nodes[i].Healthy {
				return fmt.Errorf("%s sees %s as in %+v", p.name, other.name, said.Nodes)
			}
		}
	}
	return nil
}

// gossips returns how many nodes a pod's node believes to be alive.
func (w *world) gossips(p *pod) (alive int, err error) {
	port, err := containerPort(p.spec(), intstr.FromString("metrics"))
	if err != nil {
		return 0, err
	}
	a, err := w.own.Send(context.Background(), http.MethodGet, "http://"+p.ip+":"+port+"/metrics", "", nil)
	if err != nil {
		return 0, err
	}
	_, value, _ := strings.Cut(string(a.Body), "\necp_cluster_gossip_members ")
	value, _, _ = strings.Cut(value, "\n")
	return strconv.Atoi(value)
}

// asks returns what a pod's node says of the cluster.
func (w *world) asks(p *pod) (*wire.Cluster, error) {
	a, err := w.own.Send(context.Background(), http.MethodGet, w.set.url(p)+wire.Prefix+"/cluster", "", nil)
	if err != nil {
		return nil, err
	}
	if a.Status != http.StatusOK {
		return nil, fmt.Errorf("%d: %s", a.Status, a.Body)
	}
	var said wire.Cluster
	return &said, a.Into(&said)
}

// rightVoters returns nil when those nodes vote that the settings of a pod name,
// where they name any.
func rightVoters(p *pod, said *wire.Cluster) error {
	if p.env["VOTER"] != "initial" {
		return nil
	}
	if got := strings.Join(voters(said), ","); got != p.env["INITIAL_MEMBERS"] {
		return fmt.Errorf("%s says that %s vote", p.name, got)
	}
	return nil
}

func voters(said *wire.Cluster) (names []string) {
	for _, n := range said.Nodes {
		if n.Role == wire.RoleVoter {
			names = append(names, n.ID)
		}
	}
	slices.Sort(names)
	return names
}

// check is what must hold when the cluster is whole and nobody writes: all
// nodes have one state, it has what was acknowledged, and the history is
// linearizable.
func (w *world) check(k load.Keys) []*history.Operation {
	w.t.Helper()
	ctx := context.Background()
	index, err := w.own.Mark(ctx)
	if err != nil {
		w.t.Fatal("a last write:", err)
	}
	ops := w.history.Take()
	var first *load.State
	for i, p := range w.set.all() {
		state, err := w.own.State(ctx, w.set.url(p), k, index)
		if err != nil {
			w.t.Fatalf("the state of %s: %v", p.name, err)
		}
		if first == nil {
			first = state
		}
		if what := first.Difference(state); what != "" {
			w.t.Errorf("the state of %s is another one at index %d: %s", p.name, index, what)
		}
		w.own.As(writers+i, w.set.url(p), w.history).LastWords(ctx, k, index)
	}
	if err := history.Present(ops, first.Writers()); err != nil {
		w.t.Error(err)
	}
	name := filepath.Join(w.set.dir, fmt.Sprint("history-", w.round))
	all := append(slices.Clone(ops), w.history.Take()...)
	if err := errors.Join(history.Save(name+".jsonl", all), history.Check(all, name+".html")); err != nil {
		w.t.Error(err)
	}
	return ops
}

// counts are what must not rise, and what must.
type counts struct{ requests, failed, resent, older, ends int64 }

func (w *world) counts() counts {
	return counts{
		w.traffic.sent.Load(), w.traffic.failed.Load(), w.swarm.resent.Load(), w.swarm.older.Load(), w.swarm.ends(),
	}
}

func (w *world) judge(before, after counts, ops []*history.Operation, majority bool) {
	w.t.Helper()
	if faults, restarts := w.set.taken(); len(faults)+len(restarts) > 0 {
		w.t.Errorf("faults: %q, restarts: %q", faults, restarts)
	}
	if after.failed > before.failed || after.requests == before.requests {
		w.t.Errorf("%d of %d requests through Envoy failed: %q", after.failed-before.failed, after.requests-before.requests, w.traffic.failures)
	}
	if after.older > before.older {
		w.t.Errorf("proxies were sent %d resources older than what they had", after.older-before.older)
	}
	if !majority {
		return
	}
	if after.resent > before.resent {
		w.t.Errorf("proxies were sent %d resources that they had", after.resent-before.resent)
	}
	for _, o := range ops {
		if o.End == history.Nothing || o.End == history.Unknown {
			w.t.Errorf("a request to the API failed: %+v", *o)
		}
	}
	if len(ops) == 0 {
		w.t.Error("nothing was written")
	}
}
