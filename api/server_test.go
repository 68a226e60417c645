package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/org/envoy-control-plane/api"
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestHealthReadyVersion(t *testing.T) {
	parts := []wire.Part{{Name: "raft", OK: false, Reason: "no leader seen yet"}, {Name: "archive", OK: true, Degraded: true}}
	r := newRig(t, func(_ *rig, _ *api.Config, d *api.Deps) { d.Ready = func() []wire.Part { return parts } })
	if got := decoded[wire.Health](r.get("/health"), 200); got.Status != "ok" {
		t.Errorf("health: %+v", got)
	}
	got := decoded[wire.Ready](r.get("/ready"), 503)
	if got.Ready || got.Node != "n1" || len(got.Parts) != 2 || got.Parts[0] != parts[0] {
		t.Errorf("ready: %+v", got)
	}
	parts = []wire.Part{{Name: "raft", OK: true, Degraded: true, Reason: "no leader"}}
	if got := decoded[wire.Ready](r.get("/ready"), 200); !got.Ready {
		t.Errorf("ready: %+v", got)
	}
	version := decoded[wire.Version](r.get("/version"), 200)
	if version.Version != "v1.2.3" || version.Commit != "abc" || !strings.HasPrefix(version.Go, "go") {
		t.Errorf("version: %+v", version)
	}
}

func TestCluster(t *testing.T) {
	r := newRig(t)
	got := decoded[wire.Cluster](r.get("/api/v1/cluster"), 200)
	if got.ID != "c1" || got.Epoch != "e1" || got.Leader != "n1" || got.Term != 3 || len(got.Nodes) != 2 {
		t.Errorf("cluster: %+v", got)
	}
	want := wire.Node{ID: "n2", Address: "h2:7000", Role: "nonvoter", Zone: "b", Reason: "no heartbeat"}
	if got.Nodes[1] != want || got.Nodes[0].Role != "voter" || !got.Nodes[0].Leader {
		t.Errorf("nodes: %+v", got.Nodes)
	}
	if b := got.Backup; b == nil || b.State != wire.BackupOverdue || b.Reason != "late" || b.Target != "/backups" ||
		*b.Last != (wire.StoredBackup{Name: "b", At: time.Unix(1e9, 0).UTC(), Index: 4, Bytes: 5}) {
		t.Errorf("backups: %+v", b)
	}
	if got.Archive.State != "off" || got.Archive.LastSeq != r.ledger.state().Seq() {
		t.Errorf("archive: %+v", got.Archive)
	}
	moved := decoded[wire.LeaderTransferred](r.post("/api/v1/cluster/leader", `{"node":"n2"}`), 200)
	if moved.Leader != "n2" || r.node.moved[0] != "n2" {
		t.Errorf("moved: %+v", moved)
	}
	r.post("/api/v1/cluster/leader", "").is(200)
	r.post("/api/v1/cluster/leader", `{"node":"n9"}`).refused(wire.CodeNodeNotFound)
	r.post("/api/v1/cluster/leader", `{"nod":"n2"}`).refused(wire.CodeUnknownField, "nod")
	r.delete("/api/v1/cluster/nodes/n9").refused(wire.CodeNodeNotFound)
	drained := decoded[wire.NodeDraining](r.post("/api/v1/cluster/nodes/n2/drain?within=30s", ""), 200)
	if !drained.Draining || drained.Node != "n2" || r.node.drained[0] != "n2 true 30s" {
		t.Errorf("drain: %+v, %v", drained, r.node.drained)
	}
	if got := decoded[wire.NodeDraining](r.delete("/api/v1/cluster/nodes/n2/drain"), 200); got.Draining || r.node.drained[1] != "n2 false 0s" {
		t.Errorf("undrain: %+v, %v", got, r.node.drained)
	}
	r.post("/api/v1/cluster/nodes/n2/drain?within=2h", "").refused(wire.CodeInvalidParameter, "query.within")
	r.post("/api/v1/cluster/nodes/n9/drain", "").refused(wire.CodeNodeNotFound)
	if got := decoded[wire.NodeVoting](r.post("/api/v1/cluster/nodes/n2/demote", ""), 200); got.Willing || got.Node != "n2" || r.node.voting[0] != "n2 false" {
		t.Errorf("demote: %+v, %v", got, r.node.voting)
	}
	if got := decoded[wire.NodeVoting](r.delete("/api/v1/cluster/nodes/n2/demote"), 200); !got.Willing || r.node.voting[1] != "n2 true" {
		t.Errorf("undemote: %+v, %v", got, r.node.voting)
	}
	r.post("/api/v1/cluster/nodes/n9/demote", "").refused(wire.CodeNodeNotFound)
	if got := decoded[wire.NodeRemoved](r.delete("/api/v1/cluster/nodes/n2"), 200); got.Node != "n2" || r.node.removed[0] != "n2" {
		t.Errorf("removed: %+v", got)
	}
	for code, want := range map[fsm.Code]wire.Code{
		fsm.CodeNoLeader: wire.CodeNoLeader, fsm.CodeWouldLoseQuorum: wire.CodeWouldLoseQuorum,
	} {
		r.node.set(func(n *node) { n.clusterErr = fsm.Refusal(code, "it cannot be done") })
		r.delete("/api/v1/cluster/nodes/n2").refused(want)
	}
}

func TestClusterShowsTheArchive(t *testing.T) {
	r := newRig(t, func(_ *rig, _ *api.Config, d *api.Deps) {
		d.Archive = func() (string, string) { return "down", "connection refused" }
	})
	got := decoded[wire.Cluster](r.get("/api/v1/cluster"), 200).Archive
	if got.State != "down" || got.Reason != "connection refused" || got.LastSeq == 0 {
		t.Errorf("archive: %+v", got)
	}
}

func TestHistoryFromMemory(t *testing.T) {
	r := newRig(t).withFleet()
	r.change(cluster("a", ""))
	r.put("/api/v1/tenants/default/fleets/other", "").is(201)
	r.put("/api/v1/tenants/acme", "").is(201)
	const path = "/api/v1/tenants/default/history"
	all := decoded[wire.History](r.get(path), 200)
	if all.Source != "memory" || len(all.Items) != 3 || all.Items[0].Fleet != "other" || all.Items[2].Kind != "fleet_put" {
		t.Fatalf("history: %+v", all)
	}
	made := all.Items[1]
	var data struct {
		Revision uint64 `json:"revision"`
	}
	if err := json.Unmarshal(made.Data, &data); err != nil || data.Revision != 1 || made.TenantSeq != 2 || made.By != "anonymous" {
		t.Errorf("event: %+v %s", made, made.Data)
	}
	for query, want := range map[string]int{
		"?fleet=edge": 2, "?kind=revision_created": 1, "?by=nobody": 0, "?by=anonymous&kind=fleet_put": 2,
		"?since=" + made.At.Format(time.RFC3339Nano): 2, "?until=" + made.At.Format(time.RFC3339Nano): 1,
	} {
		if got := decoded[wire.History](r.get(path+query), 200); len(got.Items) != want {
			t.Errorf("%s: %d items, want %d", query, len(got.Items), want)
		}
	}
	page := decoded[wire.History](r.get(path+"?limit=2"), 200)
	rest := decoded[wire.History](r.get(path+"?limit=2&cursor="+page.Next), 200)
	if len(rest.Items) != 1 || rest.Next != "" || rest.Items[0].Seq >= page.Items[1].Seq {
		t.Errorf("second page: %+v", rest)
	}
	r.get(path+"?since=yesterday").refused(wire.CodeInvalidParameter, "query.since")
	r.get("/api/v1/tenants/none/history").refused(wire.CodeTenantNotFound)
}

// archive is a History that remembers what it was asked.
type archive struct {
	asked api.HistoryQuery
	err   error
}

func (a *archive) History(_ context.Context, q api.HistoryQuery) (api.HistoryPage, error) {
	a.asked = q
	return api.HistoryPage{Events: []wire.Event{{Seq: 1, Kind: "fleet_put", Data: []byte(`{}`)}}, Next: "e1/7"}, a.err
}

func TestHistoryFromArchive(t *testing.T) {
	a := &archive{}
	r := newRig(t, func(_ *rig, _ *api.Config, d *api.Deps) { d.History = a })
	const path = "/api/v1/tenants/default/history"
	got := decoded[wire.History](r.get(path+"?fleet=edge&kind=k&by=b&limit=5&since=2026-11-01T00:00:00Z"), 200)
	want := api.HistoryQuery{
		Tenant: "default", Fleet: "edge", Kind: "k", By: "b", Limit: 5, Since: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
	}
	if got.Source != "archive" || len(got.Items) != 1 || a.asked != want {
		t.Errorf("history: %+v, asked %+v", got, a.asked)
	}
	r.get(path + "?cursor=" + got.Next).is(200)
	if a.asked.Cursor != "e1/7" {
		t.Errorf("asked: %+v", a.asked)
	}
	a.err = errors.New("connection refused")
	r.get(path).refused(wire.CodeArchiveUnavailable)
	r.get(path + "?cursor=eA").refused(wire.CodeInvalidCursor)
}

// TestPanicIsAnAnswer, and one line in the log that the answer leads to.
func TestPanicIsAnAnswer(t *testing.T) {
	var log syncBuffer
	r := newRig(t, func(_ *rig, _ *api.Config, d *api.Deps) {
		d.Log = slog.New(slog.NewJSONHandler(&log, nil))
		d.Ready = func() []wire.Part { panic("out of luck") }
	})
	p := r.get("/ready", wire.HeaderRequestID, "the-one").refused(wire.CodeInternal)
	if strings.Contains(p.Detail, "luck") {
		t.Errorf("the answer tells too much: %s", p.Detail)
	}
	if got := log.String(); !strings.Contains(got, "out of luck") || !strings.Contains(got, "the-one") {
		t.Errorf("log: %s", got)
	}
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestMetrics(t *testing.T) {
	r := newRig(t).withFleet()
	r.get(fleetPath).is(200)
	r.get("/api/v1/tenants/default/fleets/other").is(404)
	r.get("/nope").is(404)
	r.send("BREW", "/nope", "").is(404)
	r.get(fleetPath + "/status?wait=1s").is(200)
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			series := family.GetName()
			for _, label := range m.GetLabel() {
				series += " " + label.GetValue()
			}
			counted[series] = m.GetCounter().GetValue()
		}
	}
	const fleet = "/api/v1/tenants/{tenant}/fleets/{fleet}"
	for series, want := range map[string]float64{
		"GET " + fleet + " 200": 1, "GET " + fleet + " 404": 1, "PUT " + fleet + " 201": 1,
		"GET " + fleet + "/status 200": 1, "GET unmatched 404": 1, "other unmatched 404": 1,
	} {
		if got := counted["http_requests_total "+series]; got != want {
			t.Errorf("%s: %v, want %v", series, got, want)
		}
	}
	if _, there := counted["http_request_duration_seconds GET "+fleet]; !there {
		t.Errorf("no latency: %v", counted)
	}
	if _, there := counted["http_request_duration_seconds GET "+fleet+"/status"]; there {
		t.Error("a wait is in the latency histogram")
	}
}

// serve starts a server of its own on a listener, for what httptest hides.
func serve(t *testing.T, reg prometheus.Registerer, n *node) (s *api.Server, url string, cancel context.CancelFunc, done chan error) {
	t.Helper()
	s, err := api.New(api.Config{}, api.Deps{
		Log: slog.New(slog.DiscardHandler), Registry: reg, Cluster: n, Resources: plainResources{},
	})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done = make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	return s, "http://" + ln.Addr().String(), cancel, done
}

func TestServeAndShutdown(t *testing.T) {
	reg := prometheus.NewRegistry()
	n := newNode(newLedger())
	s, url, cancel, done := serve(t, reg, n)
	defer cancel()
	n.ledger.apply(&fsmpb.Command{Op: &fsmpb.Command_PutFleet{PutFleet: &fsmpb.PutFleet{Tenant: "default", Name: "edge"}}})
	n.answers(syncs("n1", is("p", fsmpb.ProxySync_PENDING, 0)))
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	get := func(path string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
		if err != nil {
			t.Error(err)
			return 0
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0
		}
		_, _ = io.Copy(io.Discard, resp.Body) // read to its end, the connection stays
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	if got := get("/health"); got != 200 {
		t.Fatalf("health: %d", got)
	}
	if got := gauge(t, reg, "http_connections_active"); got != 1 {
		t.Errorf("%v connections", got)
	}
	waiting := make(chan int, 1)
	go func() { waiting <- get(fleetPath + "/status?wait=1m") }()
	time.Sleep(100 * time.Millisecond)
	start := time.Now()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("shutdown took %s", took)
	}
	if got := <-waiting; got != 503 {
		t.Errorf("who waited got %d", got)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := get("/health"); got != 0 {
		t.Errorf("still answers: %d", got)
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	_, _, cancel, done := serve(t, prometheus.NewRegistry(), newNode(newLedger()))
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("still serving")
	}
}

func gauge(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// TestRegisterTwice: a registry refuses a second server, and New says so.
func TestRegisterTwice(t *testing.T) {
	reg := prometheus.NewRegistry()
	deps := api.Deps{Log: slog.New(slog.DiscardHandler), Registry: reg, Cluster: newNode(newLedger()), Resources: plainResources{}}
	if _, err := api.New(api.Config{}, deps); err != nil {
		t.Fatal(err)
	}
	if _, err := api.New(api.Config{}, deps); err == nil {
		t.Error("metrics are registered twice")
	}
}
