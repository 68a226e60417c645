package api_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/api"
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// syncs is what one node tells of a fleet's proxies.
func syncs(node string, proxies ...*fsmpb.ProxySync) *fsmpb.Answer {
	return &fsmpb.Answer{Node: node, Answer: &fsmpb.Answer_Fleet{Fleet: &fsmpb.FleetAnswer{Proxies: proxies}}}
}

func is(proxy string, state fsmpb.ProxySync_State, revision uint64) *fsmpb.ProxySync {
	return &fsmpb.ProxySync{
		Proxy: proxy, State: state, Revision: revision, WaitingFor: "cluster",
		RejectedType: fsm.TypeListener, RejectedDetail: "no such filter",
	}
}

func (n *node) answers(answers ...*fsmpb.Answer) {
	n.set(func(n *node) {
		n.gather = func(*fsmpb.Query) ([]*fsmpb.Answer, map[string]error) { return answers, nil }
	})
}

// TestStatusMergesNodes: a proxy's worst stream counts, rows without a live
// word are pending, rows without a stream disconnected.
func TestStatusMergesNodes(t *testing.T) {
	r := newRig(t).withFleet()
	r.change(cluster("web", ""))
	for i, id := range []string{"good", "twice", "bad", "silent", "gone"} {
		connect(t, r.ledger, "default", "edge", id, "10.0.0.1:1", uint64(i+1))
	}
	connect(t, r.ledger, "default", "other", "foreign", "10.0.0.1:1", 6)
	report(t, r.ledger, 7, &fsmpb.ProxyReport{
		Tenant: "default", Id: "gone", Stream: 5,
		Report: &fsmpb.ProxyReport_Disconnected_{Disconnected: &fsmpb.ProxyReport_Disconnected{}},
	})
	var asked *fsmpb.FleetQuery
	r.node.set(func(n *node) {
		n.gather = func(q *fsmpb.Query) ([]*fsmpb.Answer, map[string]error) {
			asked = q.GetFleet()
			return []*fsmpb.Answer{
				syncs("n1", is("good", fsmpb.ProxySync_SYNCED, 1), is("twice", fsmpb.ProxySync_SYNCED, 1), is("bad", fsmpb.ProxySync_PENDING, 0)),
				syncs("n2", is("twice", fsmpb.ProxySync_PENDING, 0), is("bad", fsmpb.ProxySync_REJECTED, 0), is("new", fsmpb.ProxySync_SYNCED, 1)),
			}, map[string]error{"n3": errors.New("timed out")}
		}
	})
	got := decoded[wire.FleetStatus](r.get(fleetPath+"/status"), 200)
	if want := (wire.ProxyCounts{Connected: 5, Synced: 2, Pending: 2, Rejected: 1, Disconnected: 1}); got.Proxies != want {
		t.Errorf("counts %+v, want %+v", got.Proxies, want)
	}
	if got.Revision != 1 || got.Converged || len(got.Missing) != 1 || got.Missing[0].Node != "n3" {
		t.Errorf("status: %+v", got)
	}
	if len(got.Rejections) != 1 || got.Rejections[0] != (wire.Rejection{Proxy: "bad", Type: "listener", Detail: "no such filter"}) {
		t.Errorf("rejections: %+v", got.Rejections)
	}
	var pending []string
	for _, p := range got.Pending {
		pending = append(pending, p.Proxy)
	}
	if !slices.Equal(pending, []string{"silent", "twice"}) || !strings.Contains(got.Pending[0].WaitingFor, "n1") {
		t.Errorf("pending: %+v", got.Pending)
	}
	if asked.GetRevision() != 1 || asked.GetMinIndex() != r.ledger.state().Index() || asked.GetTenant() != "default" {
		t.Errorf("asked: %v", asked)
	}
}

// Status requests that come while the nodes are being asked share the next
// question.
func TestStatusRequestsShareAQuestion(t *testing.T) {
	r := newRig(t).withFleet()
	var asked atomic.Int64
	first, all := make(chan struct{}), make(chan struct{})
	r.node.set(func(n *node) {
		n.gather = func(*fsmpb.Query) ([]*fsmpb.Answer, map[string]error) {
			if asked.Add(1) == 1 {
				close(first)
			}
			<-all
			return nil, nil
		}
	})
	var wg sync.WaitGroup
	get := func() { decoded[wire.FleetStatus](r.get(fleetPath+"/status"), 200) }
	wg.Go(get)
	<-first
	for range 20 {
		wg.Go(get)
	}
	time.Sleep(100 * time.Millisecond) // most of them have arrived
	close(all)
	wg.Wait()
	if n := asked.Load(); n < 2 || n > 10 {
		t.Errorf("the nodes were asked %d times", n)
	}
}

func TestStatusOfNothing(t *testing.T) {
	r := newRig(t).withFleet()
	got := decoded[wire.FleetStatus](r.get(fleetPath+"/status?wait=5m"), 200)
	if !got.Converged || got.Revision != 0 || got.Rejections == nil {
		t.Errorf("empty fleet: %+v", got)
	}
	r.get(fleetPath + "/status?revision=1").refused(wire.CodeRevisionNotFound)
	r.get("/api/v1/tenants/default/fleets/none/status?wait=10s").refused(wire.CodeFleetNotFound)
	for _, wait := range []string{"6m", "-1s", "x", "30"} {
		r.get(fleetPath+"/status?wait="+wait).refused(wire.CodeInvalidParameter, "query.wait")
	}
}

// TestWaitEnds when the last proxy is synced, one rejects, or time is up; and
// it notices soon.
func TestWaitEnds(t *testing.T) {
	for _, c := range []struct {
		name  string
		state fsmpb.ProxySync_State
	}{{"synced", fsmpb.ProxySync_SYNCED}, {"rejected", fsmpb.ProxySync_REJECTED}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t).withFleet()
			r.change(cluster("web", ""))
			var turned atomic.Int64
			r.node.answers(syncs("n1", is("p", fsmpb.ProxySync_PENDING, 0)))
			go func() {
				time.Sleep(300 * time.Millisecond)
				turned.Store(time.Now().UnixNano())
				r.node.answers(syncs("n1", is("p", c.state, 1)))
			}()
			got := decoded[wire.FleetStatus](r.get(fleetPath+"/status?revision=1&wait=30s"), 200)
			if late := time.Since(time.Unix(0, turned.Load())); late > 250*time.Millisecond {
				t.Errorf("noticed after %s", late)
			}
			if got.Converged != (c.state == fsmpb.ProxySync_SYNCED) || got.Proxies.Pending != 0 {
				t.Errorf("status: %+v", got)
			}
		})
	}
}

func TestWaitRunsOut(t *testing.T) {
	r := newRig(t).withFleet()
	r.node.answers(syncs("n1", is("p", fsmpb.ProxySync_PENDING, 0)))
	start := time.Now()
	got := decoded[wire.FleetStatus](r.get(fleetPath+"/status?wait=200ms"), 200)
	if took := time.Since(start); took < 200*time.Millisecond || took > 2*time.Second {
		t.Errorf("took %s", took)
	}
	if got.Converged || got.Proxies.Pending != 1 {
		t.Errorf("status: %+v", got)
	}
}

// TestWaitAddsToTheLimit: a wait longer than the request limit is kept.
func TestWaitAddsToTheLimit(t *testing.T) {
	r := newRig(t, func(_ *rig, c *api.Config, _ *api.Deps) { c.RequestLimit = 100 * time.Millisecond }).withFleet()
	r.node.answers(syncs("n1", is("p", fsmpb.ProxySync_PENDING, 0)))
	r.get(fleetPath + "/status?wait=400ms").is(200)
}

func TestWaitNoticesThatTheFleetIsGone(t *testing.T) {
	r := newRig(t).withFleet()
	r.node.answers(syncs("n1", is("p", fsmpb.ProxySync_PENDING, 0)))
	go func() {
		time.Sleep(100 * time.Millisecond)
		r.ledger.apply(&fsmpb.Command{Op: &fsmpb.Command_DeleteFleet{DeleteFleet: &fsmpb.DeleteFleet{Tenant: "default", Name: "edge"}}})
	}()
	r.get(fleetPath + "/status?wait=20s").refused(wire.CodeFleetNotFound)
}

// TestShutdownEndsWaits: who waits is told to ask another node.
func TestShutdownEndsWaits(t *testing.T) {
	r := newRig(t).withFleet()
	r.node.answers(syncs("n1", is("p", fsmpb.ProxySync_PENDING, 0)))
	go func() {
		time.Sleep(100 * time.Millisecond)
		if err := r.server.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	r.get(fleetPath + "/status?wait=30s").refused(wire.CodeUnavailable)
}
