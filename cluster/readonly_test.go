package cluster

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func setReadOnly(on bool) *fsmpb.Command {
	return &fsmpb.Command{By: "test", Op: &fsmpb.Command_SetReadOnly{
		SetReadOnly: &fsmpb.SetReadOnly{ReadOnly: on, Message: "why"},
	}}
}

// tenantWriters write on every node until they are stopped, and keep what the
// acknowledged writes and the refusals of each came to.
type tenantWriters struct {
	mu       sync.Mutex
	indexes  []uint64
	refusals map[string]int

	stop func()
}

func startTenantWriters(t *testing.T, sites []*site) *tenantWriters {
	w := &tenantWriters{refusals: map[string]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	w.stop = sync.OnceFunc(func() { cancel(); all.Wait() })
	t.Cleanup(w.stop)
	for _, s := range sites {
		for k := range 4 {
			node := s.node
			all.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					w.write(ctx, t, node, fmt.Sprintf("%s-%d-%d", node.NodeID(), k, i))
				}
			})
		}
	}
	return w
}

func (w *tenantWriters) write(ctx context.Context, t *testing.T, n *Node, name string) {
	r, err := n.Propose(ctx, putTenant(name))
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err != nil: // nothing was acknowledged
	case r.Code == "":
		w.indexes = append(w.indexes, r.Index)
	case fsm.Code(r.Code) == fsm.CodeReadOnly:
		w.refusals[n.NodeID()]++
	default:
		t.Errorf("%s: %v", name, r)
	}
}

// acknowledged counts the writes with an index above one.
func (w *tenantWriters) acknowledged(above uint64) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, index := range w.indexes {
		if index > above {
			n++
		}
	}
	return n
}

// refused reports whether a node's tenantWriters were refused more often than that.
func (w *tenantWriters) refused(sites []*site, than map[string]int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range sites {
		if w.refusals[s.cfg.NodeID] <= than[s.cfg.NodeID] {
			return false
		}
	}
	return true
}

// Behind the index that turning it on answers nobody's write is acknowledged,
// whichever node takes it and whoever leads, until it is turned off.
func TestReadOnlyEndsWritesAtItsIndex(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 3, nil)
	upAll(sites)
	awaitReady(t, sites...)
	w := startTenantWriters(t, sites)
	eventually(t, 10*time.Second, "writes pass", func() bool { return w.acknowledged(0) > 100 })

	rest := others(sites, leader(t, sites))
	on := applied(t, rest[0].node, setReadOnly(true))
	eventually(t, 10*time.Second, "every node refuses", func() bool { return w.refused(sites, nil) })
	if again := applied(t, rest[1].node, setReadOnly(true)); !again.Unchanged || again.Index != on.Index {
		t.Errorf("a second time: %v, first %v", again, on)
	}
	must(t, rest[0].node.TransferLeadership(t.Context(), ""))
	w.mu.Lock()
	before := map[string]int{}
	for id, n := range w.refusals {
		before[id] = n
	}
	w.mu.Unlock()
	eventually(t, 10*time.Second, "every node refuses under another leader", func() bool { return w.refused(sites, before) })
	applied(t, sites[0].node, &fsmpb.Command{By: "xds", Op: &fsmpb.Command_ReportProxies{ReportProxies: &fsmpb.ReportProxies{
		Node: "n1", NodeStart: 1, Batch: 1, Reports: []*fsmpb.ProxyReport{{
			Tenant: fsm.DefaultTenant, Id: "p", Stream: 1, Report: &fsmpb.ProxyReport_Connected_{Connected: &fsmpb.ProxyReport_Connected{Fleet: "f"}},
		}},
	}}})
	if n := w.acknowledged(on.Index); n != 0 {
		t.Errorf("%d writes above index %d were acknowledged", n, on.Index)
	}

	off := applied(t, rest[1].node, setReadOnly(false))
	eventually(t, 10*time.Second, "writes pass again", func() bool { return w.acknowledged(off.Index) > 100 })
	w.stop()
	if within, after := w.acknowledged(on.Index), w.acknowledged(off.Index-1); within != after {
		t.Errorf("%d writes between %d and %d were acknowledged", within-after, on.Index, off.Index)
	}
}

// A node that is brought up by a snapshot refuses too, and says so.
func TestReadOnlyIsInSnapshots(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 3, func(_ int, c *Config, _ *Deps) {
		c.SnapshotInterval, c.SnapshotThreshold, c.TrailingLogs = 50*time.Millisecond, 64, 16
	})
	upAll(sites)
	awaitReady(t, sites...)
	lead := leader(t, sites)
	wiped := others(sites, lead)[0]
	wiped.kill()
	on := applied(t, lead.node, setReadOnly(true))
	var busy sync.WaitGroup
	var refused atomic.Int64
	for i := range 400 { // they take part in the log
		busy.Go(func() {
			if r, err := lead.node.Propose(t.Context(), putTenant(fmt.Sprint("t", i))); err == nil && fsm.Code(r.Code) == fsm.CodeReadOnly {
				refused.Add(1)
			}
		})
		if i%4 == 0 {
			busy.Wait()
		}
	}
	busy.Wait()
	if refused.Load() == 0 {
		t.Error("no write was refused")
	}
	eventually(t, 10*time.Second, "the log is compacted", func() bool {
		index, err := lead.node.rt.Load().stores.Log.FirstIndex()
		return err == nil && index > on.Index
	})
	wiped.wipe()
	wiped.up()
	awaitReady(t, wiped)
	if got, want := wiped.node.State().ReadOnly(), lead.node.State().ReadOnly(); !proto.Equal(got, want) || got.GetIndex() != on.Index {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := gauge(t, wiped, "ecp_read_only"); got != 1 {
		t.Errorf("ecp_read_only is %v", got)
	}
	off := applied(t, wiped.node, setReadOnly(false))
	eventually(t, 10*time.Second, "every node takes writes", func() bool {
		return lead.node.State().Index() >= off.Index && gauge(t, lead, "ecp_read_only") == 0
	})
	propose(t, wiped.node, "after")
}

func gauge(t *testing.T, s *site, name string) float64 {
	t.Helper()
	families, err := s.deps.Metrics.(*prometheus.Registry).Gather()
	must(t, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.Metric[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}
