package api_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

const proxiesPath = "/api/v1/tenants/default/proxies"

// stream is one stream's record, as node n1 has it.
func stream(proxy, peer string, number, revision uint64, types ...*fsmpb.TypeReport) *fsmpb.StreamReport {
	return &fsmpb.StreamReport{
		Tenant: "default", Proxy: proxy, Fleet: "edge", NodeStart: 1, Number: number, Peer: peer,
		Protocol: "delta", Revision: revision, Types: types, WaitingFor: "listener",
	}
}

func streams(reports ...*fsmpb.StreamReport) *fsmpb.Answer {
	return &fsmpb.Answer{Node: "n1", Answer: &fsmpb.Answer_Streams{Streams: &fsmpb.StreamsAnswer{Streams: reports}}}
}

func acked(url, version string) *fsmpb.TypeReport {
	return &fsmpb.TypeReport{TypeUrl: url, Sent: version, Acked: version, SentAt: 5}
}

// TestProxy: the row of the state and the record of the stream make one
// proxy.
func TestProxy(t *testing.T) {
	r := newRig(t).withFleet()
	r.change(cluster("web", ""))
	connect(t, r.ledger, "default", "edge", "p/1", "10.0.0.1:1", 1)
	r.node.answers(streams(stream("p/1", "10.0.0.1:1", 1, 1, acked(fsm.TypeCluster, "7-ab"))))
	got := decoded[wire.Proxy](r.get(proxiesPath+"/p%2F1"), 200)
	if got.ID != "p/1" || got.Fleet != "edge" || got.Status != "connected" || got.Sync != "synced" || got.Revision != 1 ||
		got.Build != "1.40.0" || got.Labels["a"] != "b" || got.Locality.Zone != "eu" || got.DuplicateID || got.WaitingFor != "" {
		t.Errorf("proxy: %+v", got)
	}
	if got.Types["cluster"] != (wire.TypeStatus{Sent: "7-ab", Acked: "7-ab"}) {
		t.Errorf("types: %+v", got.Types)
	}
	if s := got.Streams[0]; s.Node != "n1" || s.Peer != "10.0.0.1:1" || s.Protocol != "delta" ||
		!slices.Equal(s.Types, []string{"cluster"}) || s.Since.IsZero() {
		t.Errorf("streams: %+v", got.Streams)
	}
	r.delete(proxiesPath + "/p%2F1").refused(wire.CodeProxyConnected)
	r.get(proxiesPath + "/none").refused(wire.CodeProxyNotFound)
	r.delete(proxiesPath + "/none").refused(wire.CodeProxyNotFound)
	r.get("/api/v1/tenants/none/proxies").refused(wire.CodeTenantNotFound)
}

// TestProxySync goes through what several streams come to.
func TestProxySync(t *testing.T) {
	nack := &fsmpb.TypeReport{
		TypeUrl: fsm.TypeListener, Sent: "8-cd", Acked: "7-ab", SentAt: 9,
		RejectedVersion: "8-cd", RejectedDetail: "no such filter", RejectedAt: 3,
	}
	for _, c := range []struct {
		name     string
		streams  []*fsmpb.StreamReport
		sync     string
		revision uint64
	}{
		{"all synced", []*fsmpb.StreamReport{stream("p", "10.0.0.1:1", 1, 1), stream("p", "10.0.0.1:2", 2, 2)}, wire.SyncSynced, 1},
		{"one behind", []*fsmpb.StreamReport{stream("p", "10.0.0.1:1", 1, 0), stream("p", "10.0.0.1:2", 2, 1)}, wire.SyncPending, 0},
		{"one silent", []*fsmpb.StreamReport{stream("p", "10.0.0.1:1", 1, 1)}, wire.SyncPending, 0},
		{"none", nil, wire.SyncPending, 0},
		{"one rejects", []*fsmpb.StreamReport{stream("p", "10.0.0.1:1", 1, 0, nack), stream("p", "10.0.0.1:2", 2, 1, acked(fsm.TypeListener, "9-ef"))}, wire.SyncRejected, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t).withFleet()
			r.change(cluster("web", ""))
			connect(t, r.ledger, "default", "edge", "p", "10.0.0.1:1", 1)
			connect(t, r.ledger, "default", "edge", "p", "10.0.0.1:2", 2)
			r.node.answers(streams(c.streams...))
			got := decoded[wire.Proxy](r.get(proxiesPath+"/p"), 200)
			if got.Sync != c.sync || got.Revision != c.revision || len(got.Streams) != 2 {
				t.Errorf("proxy: %+v", got)
			}
			if rejected := got.Types["listener"].Rejected; c.sync == wire.SyncRejected &&
				(rejected == nil || rejected.Detail != "no such filter" || got.Types["listener"].Acked != "7-ab") {
				t.Errorf("types: %+v", got.Types)
			}
		})
	}
}

// TestDisconnectedProxy keeps what it rejected and may be forgotten.
func TestDisconnectedProxy(t *testing.T) {
	r := newRig(t).withFleet()
	connect(t, r.ledger, "default", "edge", "p", "10.0.0.1:1", 1)
	report(t, r.ledger, 2, &fsmpb.ProxyReport{Tenant: "default", Id: "p", Stream: 1, Report: &fsmpb.ProxyReport_Rejected_{
		Rejected: &fsmpb.ProxyReport_Rejected{TypeUrl: fsm.TypeListener, Version: "8-cd", Detail: "no such filter"},
	}})
	report(t, r.ledger, 3, &fsmpb.ProxyReport{Tenant: "default", Id: "p", Stream: 1, Report: &fsmpb.ProxyReport_Disconnected_{
		Disconnected: &fsmpb.ProxyReport_Disconnected{},
	}})
	got := decoded[wire.Proxy](r.get(proxiesPath+"/p"), 200)
	if got.Status != "disconnected" || got.Sync != "rejected" || got.Types["listener"].Rejected.Detail != "no such filter" ||
		got.Streams == nil || len(got.Streams) != 0 {
		t.Errorf("proxy: %+v", got)
	}
	r.delete(proxiesPath + "/p").is(200)
	r.get(proxiesPath + "/p").refused(wire.CodeProxyNotFound)
}

func TestDuplicateID(t *testing.T) {
	r := newRig(t).withFleet()
	connect(t, r.ledger, "default", "edge", "p", "10.0.0.1:1", 1)
	connect(t, r.ledger, "default", "edge", "p", "10.0.0.1:2", 2)
	if got := decoded[wire.Proxy](r.get(proxiesPath+"/p"), 200); got.DuplicateID {
		t.Errorf("one host: %+v", got)
	}
	connect(t, r.ledger, "default", "edge", "p", "10.0.0.2:1", 3)
	if got := decoded[wire.Proxy](r.get(proxiesPath+"/p"), 200); !got.DuplicateID {
		t.Errorf("two hosts: %+v", got)
	}
}

func TestProxyList(t *testing.T) {
	r := newRig(t).withFleet()
	connect(t, r.ledger, "default", "edge", "p1", "10.0.0.1:1", 1)
	connect(t, r.ledger, "default", "edge", "p2", "10.0.0.1:2", 2)
	connect(t, r.ledger, "default", "other", "p3", "10.0.0.1:3", 3)
	report(t, r.ledger, 4, &fsmpb.ProxyReport{Tenant: "default", Id: "p2", Stream: 2, Report: &fsmpb.ProxyReport_Disconnected_{
		Disconnected: &fsmpb.ProxyReport_Disconnected{},
	}})
	var asked [][]string
	r.node.set(func(n *node) {
		n.gather = func(q *fsmpb.Query) ([]*fsmpb.Answer, map[string]error) {
			asked = append(asked, q.GetStreams().GetProxies())
			return nil, map[string]error{"n1": errors.New("no answer")}
		}
	})
	for query, want := range map[string][]string{
		"":                                {"p1", "p2", "p3"},
		"?fleet=edge":                     {"p1", "p2"},
		"?status=connected":               {"p1", "p3"},
		"?fleet=edge&status=disconnected": {"p2"},
		"?fleet=none":                     {},
	} {
		ids := []string{}
		for _, p := range decoded[wire.List[wire.Proxy]](r.get(proxiesPath+query), 200).Items {
			ids = append(ids, p.ID)
		}
		if !slices.Equal(ids, want) {
			t.Errorf("%q: %v, want %v", query, ids, want)
		}
	}
	for _, ids := range asked {
		if len(ids) == 0 || slices.Contains(ids, "p2") {
			t.Errorf("asked for %v, which have no streams", ids)
		}
	}
	r.get(proxiesPath+"?status=up").refused(wire.CodeInvalidParameter, "query.status")
	page := decoded[wire.List[wire.Proxy]](r.get(proxiesPath+"?limit=2"), 200)
	rest := decoded[wire.List[wire.Proxy]](r.get(proxiesPath+"?limit=2&cursor="+page.Next), 200)
	if len(rest.Items) != 1 || rest.Items[0].ID != "p3" || rest.Next != "" {
		t.Errorf("second page: %+v", rest)
	}
}
