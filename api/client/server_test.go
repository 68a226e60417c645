package client_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/org/envoy-control-plane/api"
	"github.com/org/envoy-control-plane/api/apitest"
	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/openapi/checker"
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// asIs takes every message as it is.
type asIs struct{}

func (asIs) Decode(_ string, raw []byte) (*fsmpb.Resource, []wire.FieldError) {
	var m struct {
		Type string `json:"@type"`
		Name string `json:"name"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, []wire.FieldError{{Detail: err.Error()}}
	}
	return &fsmpb.Resource{TypeUrl: m.Type, Name: m.Name, Body: raw, Hash: fsm.ResourceHash(raw, nil, 0)}, nil
}

func (asIs) DecodeEndpoints(_ string, raw []byte) (body, hash []byte, problems []wire.FieldError) {
	return raw, fsm.ResourceHash(raw, nil, 0), nil
}

func (asIs) DecodeSecret(_ string, raw []byte) ([]byte, *fsmpb.SecretInfo, []wire.FieldError) {
	return bytes.Clone(raw), &fsmpb.SecretInfo{Kind: "generic_secret"}, nil
}

func (asIs) Seal(_, _ string, plain []byte) ([]byte, string) { return bytes.Clone(plain), "k1" }
func (asIs) Digest(parts ...[]byte) []byte                   { return bytes.Join(parts, nil) }

func (asIs) Extract(string, []byte) ([]*fsmpb.Reference, []string, error) { return nil, nil, nil }

func (asIs) JSON(_ string, body []byte) ([]byte, error) { return body, nil }

// fragile breaks the connection of every write after the server has answered
// it, as long as it is told to.
type fragile struct {
	http.RoundTripper
	mu     sync.Mutex
	broken int
}

func (f *fragile) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := f.RoundTripper.RoundTrip(r)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil || r.Method == http.MethodGet || f.broken == 0 {
		return answer, err
	}
	f.broken--
	_ = answer.Body.Close()
	return nil, io.ErrUnexpectedEOF
}

// rig is the API itself and a client of it. Every exchange is held against the
// OpenAPI document.
func rig(t *testing.T) (c *client.Client, transport *fragile, doc *checker.Checker, asked *sync.Map) {
	t.Helper()
	l, err := apitest.NewCluster()
	if err != nil {
		t.Fatal(err)
	}
	server, err := api.New(api.Config{Version: "v1"}, api.Deps{
		Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Cluster: l, Resources: asIs{}, Secrets: asIs{},
		Archived: apitest.Shelf{},
	})
	if err != nil {
		t.Fatal(err)
	}
	doc, err = checker.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	asked = &sync.Map{}
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.Method+" "+r.URL.Path, true)
		server.Handler().ServeHTTP(w, r)
	}))
	t.Cleanup(ts.Close)
	base := &http.Transport{}
	t.Cleanup(base.CloseIdleConnections)
	transport = &fragile{RoundTripper: doc.RoundTripper(base, func(err error) { t.Error(err) })}
	c, err = client.New(client.Options{Servers: []string{ts.URL}, Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	return c, transport, doc, asked
}

func cluster(name, more string) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"@type":"%s","name":%q%s}`, fsm.TypeCluster, name, more))
}

// TestEveryOperation calls every method against the API itself.
func TestEveryOperation(t *testing.T) {
	c, _, doc, asked := rig(t)
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w, err := c.PutTenant(ctx, "acme", wire.TenantPut{Labels: map[string]string{"plan": "gold"}})
	must(err)
	tenant, err := c.GetTenant(ctx, w.Name)
	must(err)
	if tenant.Labels["plan"] != "gold" {
		t.Errorf("tenant is %+v", tenant)
	}
	c = c.InTenant("acme")
	_, err = c.PutFleet(ctx, "edge", wire.FleetPut{Settings: &wire.FleetSettings{RevisionHistoryLimit: 9}})
	must(err)

	first, err := c.Change(ctx, "edge", wire.ChangeSet{
		Message: "first", Mode: wire.ModeReplace, Upsert: []json.RawMessage{cluster("a/b", ""), cluster("c", "")},
	}, client.ChangeOptions{})
	must(err)
	trial, err := c.Change(ctx, "edge", wire.ChangeSet{
		Delete: []wire.ResourceKey{{Type: "cluster", Name: "c"}},
	}, client.ChangeOptions{DryRun: true, Content: true, Force: true})
	must(err)
	if !trial.DryRun || len(trial.Changed) != 1 || trial.Changed[0].Before == nil {
		t.Errorf("the trial came to %+v", trial)
	}
	expect := first.Revision
	second, err := c.Change(ctx, "edge", wire.ChangeSet{
		ExpectRevision: &expect, Upsert: []json.RawMessage{cluster("c", `,"x":1`)},
	}, client.ChangeOptions{})
	must(err)
	if _, err := c.Change(ctx, "edge", wire.ChangeSet{ExpectRevision: &expect}, client.ChangeOptions{}); client.CodeOf(err) !=
		wire.CodeRevisionConflict {
		t.Errorf("a stale revision: %v", err)
	}
	third, err := c.Rollback(ctx, "edge", wire.Rollback{To: first.Revision, Message: "back"}, client.ChangeOptions{})
	must(err)
	if second.Revision != 2 || third.Revision != 3 {
		t.Errorf("revisions are %d, %d, %d", first.Revision, second.Revision, third.Revision)
	}

	fleet, err := c.GetFleet(ctx, "edge")
	must(err)
	if fleet.Revision != 3 || fleet.Settings.RevisionHistoryLimit != 9 {
		t.Errorf("fleet is %+v", fleet)
	}
	resource, err := c.GetResource(ctx, "edge", wire.ResourceKey{Type: fsm.TypeCluster, Name: "a/b"}, 1)
	must(err)
	if resource.Name != "a/b" || resource.Type != "cluster" {
		t.Errorf("resource is %+v", resource)
	}
	resources, err := client.Collect(c.Resources(ctx, "edge", client.ResourceQuery{Type: "cluster", Revision: 2}))
	must(err)
	revisions, err := client.Collect(c.Revisions(ctx, "edge"))
	must(err)
	if len(resources) != 2 || len(revisions) != 3 || revisions[0].RollbackOf != 1 {
		t.Errorf("there are %d resources and the revisions %+v", len(resources), revisions)
	}
	revision, err := c.GetRevision(ctx, "edge", 2)
	must(err)
	from := uint64(0)
	diff, err := c.Diff(ctx, "edge", 2, client.DiffQuery{From: &from, Content: true})
	must(err)
	if revision.Resources["cluster"] != 2 || diff.From != 0 || len(diff.Changed) != 2 {
		t.Errorf("revision is %+v, diff %+v", revision, diff)
	}
	status, err := c.FleetStatus(ctx, "edge", client.StatusQuery{Revision: 3, Wait: time.Second})
	must(err)
	if !status.Converged {
		t.Errorf("status is %+v", status)
	}

	_, err = c.PutEndpoints(ctx, "a/b", json.RawMessage(`{"cluster_name":"a/b"}`))
	must(err)
	endpoints, err := c.GetEndpoints(ctx, "a/b")
	must(err)
	_, err = c.PutSecret(ctx, "a/b", json.RawMessage(`{"generic_secret":{}}`))
	must(err)
	secret, err := c.GetSecret(ctx, "a/b")
	must(err)
	if secret.Kind != "generic_secret" || secret.KeyID != "k1" {
		t.Errorf("secret: %+v", secret)
	}
	secrets, err := client.Collect(c.Secrets(ctx))
	must(err)
	if len(secrets) != 1 {
		t.Errorf("secrets: %+v", secrets)
	}
	_, err = c.DeleteSecret(ctx, "a/b")
	must(err)
	services, err := client.Collect(c.EndpointsOf(ctx))
	must(err)
	if endpoints.Service != "a/b" || len(services) != 1 {
		t.Errorf("endpoints are %+v of %d", endpoints, len(services))
	}

	proxies, err := client.Collect(c.Proxies(ctx, client.ProxyQuery{Fleet: "edge", Status: wire.StatusConnected}))
	must(err)
	if _, err := c.GetProxy(ctx, "p/1"); client.CodeOf(err) != wire.CodeProxyNotFound || len(proxies) != 0 {
		t.Errorf("a proxy that is not there: %v", err)
	}
	if _, err := c.DeleteProxy(ctx, "p/1"); client.CodeOf(err) != wire.CodeProxyNotFound {
		t.Errorf("deleting a proxy that is not there: %v", err)
	}

	if _, err := c.ProxyConfig(ctx, "p", true); client.CodeOf(err) != wire.CodeProxyNotFound {
		t.Errorf("the configuration of a proxy that is not there: %v", err)
	}
	if _, err := c.RetryProxy(ctx, "p", "cluster"); client.CodeOf(err) != wire.CodeProxyNotFound {
		t.Errorf("a retry of a proxy that is not there: %v", err)
	}

	now := time.Now()
	history, err := c.History(ctx, client.HistoryQuery{
		Fleet: "edge", Kind: "revision_created", Since: now.Add(-time.Hour), Until: now.Add(time.Hour), Limit: 2,
	})
	must(err)
	if len(history.Items) != 2 || history.Next == "" || history.Source != wire.SourceMemory {
		t.Errorf("history is %+v", history)
	}
	rest, err := c.History(ctx, client.HistoryQuery{Fleet: "edge", Kind: "revision_created", Cursor: history.Next})
	must(err)
	if len(rest.Items) != 1 {
		t.Errorf("the history's second page is %+v", rest)
	}

	events, err := client.Collect(c.Events(ctx, client.EventQuery{Since: "0", Kinds: []string{"revision_created"}, Once: true}))
	must(err)
	own, err := client.Collect(c.Events(ctx, client.EventQuery{Cluster: true, Since: "0", Once: true}))
	must(err)
	if len(events) != 3 || len(own) != 1 || own[0].Kind != "cluster_initialized" {
		t.Errorf("events are %+v and %+v", events, own)
	}

	wantReports(t, c)
	if a, err := c.Archive(t.Context()); err != nil || a.Database == nil || a.Database.Cursor.Seq != 41 {
		t.Errorf("archive %+v: %v", a, err)
	}

	_, err = c.DeleteEndpoints(ctx, "a/b")
	must(err)
	_, err = c.DeleteFleet(ctx, "edge", true)
	must(err)
	fleets, err := client.Collect(c.Fleets(ctx))
	must(err)
	_, err = c.DeleteTenant(ctx, "acme")
	must(err)
	tenants, err := client.Collect(c.Tenants(ctx))
	must(err)
	if len(fleets) != 0 || len(tenants) != 1 {
		t.Errorf("left are %v and %v", fleets, tenants)
	}

	cl, err := c.Cluster(ctx)
	must(err)
	if cl.ID != "c1" || cl.Index != c.Index() {
		t.Errorf("cluster is %+v, the client is at %d", cl, c.Index())
	}
	on, err := c.SetReadOnly(ctx, wire.ReadOnlySet{ReadOnly: true, Message: "why"})
	must(err)
	is, err := c.ReadOnly(ctx)
	must(err)
	if !on.ReadOnly || on.Index == 0 || is.Index != on.Index || is.Message != "why" {
		t.Errorf("turned on: %+v, then %+v", on, is)
	}
	off, err := c.SetReadOnly(ctx, wire.ReadOnlySet{})
	must(err)
	if off.ReadOnly {
		t.Errorf("turned off: %+v", off)
	}
	level, err := c.Finalize(ctx)
	must(err)
	if level.FeatureLevel != fsm.SupportedLevel || level.Index == 0 {
		t.Errorf("finalized: %+v", level)
	}
	_, err = c.TransferLeader(ctx, "n1")
	must(err)
	if _, err := c.RemoveNode(ctx, "n9"); err != nil && client.CodeOf(err) != wire.CodeNodeNotFound {
		t.Errorf("removing a node: %v", err)
	}
	drained, err := c.DrainNode(ctx, "n1", time.Minute)
	must(err)
	undrained, err := c.UndrainNode(ctx, "n1")
	must(err)
	demoted, err := c.DemoteNode(ctx, "n1")
	must(err)
	undemoted, err := c.UndemoteNode(ctx, "n1")
	must(err)
	if demoted.Willing || !undemoted.Willing {
		t.Errorf("willing: %+v, then %+v", demoted, undemoted)
	}

	file, err := os.Create(filepath.Join(t.TempDir(), "backup"))
	must(err)
	defer file.Close()
	backup, err := c.Backup(ctx, 1, file)
	must(err)
	restored, err := c.Restore(ctx, func() (io.ReadCloser, error) { return os.Open(file.Name()) }, "c1", false)
	must(err)
	if backup.Epoch != "e1" || restored.SHA256 != backup.SHA256 || restored.From.Index != backup.Index {
		t.Errorf("%+v restored as %+v", backup, restored)
	}

	if !drained.Draining || undrained.Draining {
		t.Errorf("draining: %+v, then %+v", drained, undrained)
	}
	health, err := c.Health(ctx)
	must(err)
	ready, err := c.Ready(ctx)
	must(err)
	version, err := c.Version(ctx)
	must(err)
	openapi, err := c.OpenAPI(ctx)
	must(err)
	if health.Status != "ok" || !ready.Ready || version.Version != "v1" || !json.Valid(openapi) {
		t.Errorf("node says %+v, %+v, %+v", health, ready, version)
	}

	for path, item := range doc.Document().Paths.Map() {
		for method := range item.Operations() {
			// The client follows events without a WebSocket.
			if path != "/api/v1/ws" && !wasAsked(asked, method, path) {
				t.Errorf("no method of the client made a %s %s", method, path)
			}
		}
	}
}

// wasAsked reports whether a request fits a path of the document. Names in
// this test have no slash where the number of segments tells paths apart.
func wasAsked(asked *sync.Map, method, template string) (found bool) {
	asked.Range(func(key, _ any) bool {
		what, _ := key.(string)
		got := strings.Split(strings.ReplaceAll(strings.ReplaceAll(what, "a/b", "ab"), "p/1", "p1"), "/")
		want := strings.Split(method+" "+template, "/")
		fits := len(got) == len(want)
		for i := range want {
			fits = fits && (got[i] == want[i] || strings.HasPrefix(want[i], "{"))
		}
		found = found || fits
		return !found
	})
	return found
}

// TestARepeatedWriteAppliesOnce: the answer to a write is lost twice, and the
// third attempt gets it.
func TestARepeatedWriteAppliesOnce(t *testing.T) {
	c, transport, _, _ := rig(t)
	ctx := t.Context()
	if _, err := c.PutFleet(ctx, "edge", wire.FleetPut{}); err != nil {
		t.Fatal(err)
	}
	transport.broken = 2
	made, err := c.Change(ctx, "edge", wire.ChangeSet{Upsert: []json.RawMessage{cluster("a", "")}}, client.ChangeOptions{})
	if err != nil || made.Revision != 1 || len(made.Changed) != 1 {
		t.Fatalf("made %+v, %v", made, err)
	}
	transport.broken = 2
	expect := uint64(1)
	made, err = c.Change(ctx, "edge", wire.ChangeSet{
		ExpectRevision: &expect, Delete: []wire.ResourceKey{{Type: "cluster", Name: "a"}},
	}, client.ChangeOptions{Force: true})
	if err != nil || made.Revision != 2 {
		t.Fatalf("made %+v, %v: an attempt of its own was in its way", made, err)
	}
}
