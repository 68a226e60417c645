package api_test

import (
	"errors"
	"slices"
	"strings"
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

// shown is a resource of a stream's config, "web synced 2-ab > 2-ab".
func shown(r wire.ResourceConfig) string {
	return r.Name + " " + r.Status + " " + r.Should + " > " + r.Acked
}

// TestProxyConfig: versions come from the nodes, messages from the state.
func TestProxyConfig(t *testing.T) {
	r := newRig(t).withFleet()
	old := r.change(cluster("web", ""), cluster("old", ""))
	now := decoded[wire.Changed](r.post(changePath, `{"upsert":[`+cluster("web", `,"binds":["x"]`)+`],"delete":[{"type":"cluster","name":"old"}]}`), 201)
	version := func(c wire.Changed, name string) string {
		for _, x := range c.Changed {
			if x.Name == name {
				return x.Version
			}
		}
		t.Fatalf("%s did not change", name)
		return ""
	}
	was, is, gone := version(old, "web"), version(now, "web"), version(old, "old")
	connect(t, r.ledger, "default", "edge", "p/1", "10.0.0.1:1", 1)
	r.node.set(func(n *node) {
		n.gather = func(q *fsmpb.Query) ([]*fsmpb.Answer, map[string]error) {
			if c := q.GetConfig(); c.GetTenant() != "default" || !slices.Equal(c.GetProxies(), []string{"p/1"}) {
				t.Errorf("asked: %v", q)
			}
			return []*fsmpb.Answer{{Node: "n1", Answer: &fsmpb.Answer_Config{Config: &fsmpb.ConfigAnswer{Streams: []*fsmpb.StreamConfig{{
				Stream: stream("p/1", "10.0.0.1:1", 1, 1),
				Types: []*fsmpb.TypeConfig{
					{TypeUrl: fsm.TypeCluster, Wildcard: true, RejectedDetail: "no good", RejectedAt: 7, Resources: []*fsmpb.ResourceConfig{
						{Name: "old", Status: fsmpb.ResourceConfig_NOT_SENT, Sent: gone, Acked: gone},
						{Name: "web", Status: fsmpb.ResourceConfig_REJECTED, Should: is, Sent: is, Acked: was, Rejected: is},
					}},
					{TypeUrl: fsm.TypeSecret, Resources: []*fsmpb.ResourceConfig{
						{Name: "tls", Status: fsmpb.ResourceConfig_SYNCED, Should: "1-aa", Acked: "1-aa"},
					}},
				},
			}}}}}}, map[string]error{"n2": errors.New("timed out")}
		}
	})
	path := proxiesPath + "/p%2F1/config"
	got := decoded[wire.ProxyConfig](r.get(path), 200)
	if got.ID != "p/1" || got.Revision != 2 || len(got.Streams) != 1 || got.Types != nil || got.Missing[0].Node != "n2" {
		t.Fatalf("config: %+v", got)
	}
	types := got.Streams[0].Types
	if len(types) != 2 || !types[0].Wildcard || got.Streams[0].Node != "n1" || got.Streams[0].WaitingFor != "listener" {
		t.Fatalf("stream: %+v", got.Streams[0])
	}
	clusters := types[0].Resources
	if shown(clusters[0]) != "old not_sent  > "+gone || shown(clusters[1]) != "web rejected "+is+" > "+was {
		t.Errorf("clusters: %s, %s", shown(clusters[0]), shown(clusters[1]))
	}
	if r := clusters[1].Rejected; r == nil || r.Version != is || r.Detail != "no good" || clusters[0].Rejected != nil {
		t.Errorf("rejected: %+v", r)
	}
	if !strings.Contains(string(clusters[0].Resource), `"old"`) || !strings.Contains(string(clusters[1].Resource), `"binds":["x"]`) {
		t.Errorf("messages: %s %s", clusters[0].Resource, clusters[1].Resource)
	}
	if secret := types[1].Resources[0]; shown(secret) != "tls synced 1-aa > 1-aa" || secret.Resource != nil {
		t.Errorf("secret: %+v", secret)
	}
	got = decoded[wire.ProxyConfig](r.get(path+"?content=false"), 200)
	if res := got.Streams[0].Types[0].Resources[1]; res.Resource != nil || res.Should != is {
		t.Errorf("without content: %+v", res)
	}
	r.get(path+"?content=maybe").refused(wire.CodeInvalidParameter, "query.content")
	r.get(proxiesPath + "/p/config").refused(wire.CodeProxyNotFound)
}

// TestProxyConfigFromTheState: of a proxy that nobody serves there is what
// its fleet has.
func TestProxyConfigFromTheState(t *testing.T) {
	r := newRig(t).withFleet()
	connect(t, r.ledger, "default", "edge", "p", "10.0.0.1:1", 1)
	report(t, r.ledger, 2, &fsmpb.ProxyReport{Tenant: "default", Id: "p", Stream: 1, Report: &fsmpb.ProxyReport_Disconnected_{
		Disconnected: &fsmpb.ProxyReport_Disconnected{},
	}})
	if got := decoded[wire.ProxyConfig](r.get(proxiesPath+"/p/config"), 200); got.Status != "disconnected" || got.Types != nil {
		t.Errorf("without a revision: %+v", got)
	}
	r.ledger.apply(&fsmpb.Command{Op: &fsmpb.Command_PutEndpoints{PutEndpoints: &fsmpb.PutEndpoints{
		Tenant: "default", Service: "web", Body: []byte(`{"cluster_name":"web"}`), Hash: fsm.ResourceHash([]byte("x"), nil, 0),
	}}})
	r.ledger.apply(&fsmpb.Command{Op: &fsmpb.Command_PutSecret{PutSecret: &fsmpb.PutSecret{
		Tenant: "default", Name: "tls", Sealed: []byte("sealed"), KeyId: "key", Hash: fsm.ResourceHash([]byte("tls"), nil, 0),
	}}})
	r.ledger.apply(&fsmpb.Command{Op: &fsmpb.Command_ChangeFleet{ChangeFleet: &fsmpb.ChangeFleet{
		Tenant: "default", Fleet: "edge", Upsert: []*fsmpb.Resource{{
			TypeUrl: fsm.TypeCluster, Name: "web", Body: []byte(`{"name":"web"}`), Hash: fsm.ResourceHash([]byte("web"), nil, 0),
			References: []*fsmpb.Reference{
				{Kind: fsmpb.Reference_ENDPOINTS, Name: "web"},
				{Kind: fsmpb.Reference_ENDPOINTS, Name: "none"},
				{Kind: fsmpb.Reference_SECRET, Name: "tls"},
				{Kind: fsmpb.Reference_SECRET, Name: "void"},
				{Kind: fsmpb.Reference_CLUSTER, Name: "other"},
			},
		}},
	}}})
	got := decoded[wire.ProxyConfig](r.get(proxiesPath+"/p/config"), 200)
	var lines []string
	for _, c := range got.Types {
		for _, x := range c.Resources {
			hash := fsm.VersionHash(x.Should)
			lines = append(lines, strings.TrimSpace(c.Type+" "+x.Name+" "+x.Status+" "+hash[:min(2, len(hash))]+" "+string(x.Resource)))
		}
	}
	want := []string{
		`cluster web unknown ` + fsm.VersionHash(fsm.Version(1, fsm.ResourceHash([]byte("web"), nil, 0)))[:2] + ` {"name":"web"}`,
		`endpoints none unknown`,
		`endpoints web unknown ` + fsm.VersionHash(fsm.Version(1, fsm.ResourceHash([]byte("x"), nil, 0)))[:2] + ` {"cluster_name":"web"}`,
		`secret tls unknown ` + fsm.VersionHash(fsm.Version(1, fsm.ResourceHash([]byte("tls"), nil, 0)))[:2],
		`secret void unknown`,
	}
	if !slices.Equal(lines, want) {
		t.Errorf("types:\n%s\nwant:\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

// TestRetry adds up what the nodes send again.
func TestRetry(t *testing.T) {
	r := newRig(t).withFleet()
	connect(t, r.ledger, "default", "edge", "p", "10.0.0.1:1", 1)
	var asked *fsmpb.RetryQuery
	r.node.set(func(n *node) {
		n.gather = func(q *fsmpb.Query) ([]*fsmpb.Answer, map[string]error) {
			asked = q.GetRetry()
			one := &fsmpb.Answer{Answer: &fsmpb.Answer_Retry{Retry: &fsmpb.RetryAnswer{Retried: 1}}}
			return []*fsmpb.Answer{one, one, {}}, map[string]error{"n3": errors.New("timed out")}
		}
	})
	got := decoded[wire.Retried](r.post(proxiesPath+"/p/retry?type=listener", ""), 200)
	if got.Retried != 2 || len(got.Missing) != 1 || asked.GetProxy() != "p" || asked.GetTenant() != "default" || asked.GetTypeUrl() != fsm.TypeListener {
		t.Errorf("%+v after %v", got, asked)
	}
	r.post(proxiesPath+"/none/retry", "").refused(wire.CodeProxyNotFound)
	r.post(proxiesPath+"/p/retry?type=a%20b", "").refused(wire.CodeUnknownType, "query.type")
}
