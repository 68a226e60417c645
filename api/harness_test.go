package api_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/org/envoy-control-plane/api"
	"github.com/org/envoy-control-plane/api/openapi/checker"
	"github.com/org/envoy-control-plane/api/wire"
)

// rig is one server under test, spoken to over real HTTP. Every exchange is
// held against the OpenAPI document.
type rig struct {
	t      *testing.T
	ledger *ledger
	node   *node
	reg    *prometheus.Registry
	server *api.Server
	url    string
	client *http.Client
	header http.Header
}

// option changes a rig before its server is made.
type option func(*rig, *api.Config, *api.Deps)

func newRig(t *testing.T, options ...option) *rig {
	t.Helper()
	l := newLedger()
	return newRigOn(t, newNode(l), options...)
}

func newRigOn(t *testing.T, n *node, options ...option) *rig {
	t.Helper()
	r := &rig{t: t, ledger: n.ledger, node: n, reg: prometheus.NewRegistry(), header: http.Header{}}
	cfg := api.Config{Version: "v1.2.3", Commit: "abc"}
	deps := api.Deps{
		Log: slog.New(slog.DiscardHandler), Registry: r.reg, Cluster: r.node, Resources: plainResources{},
	}
	for _, o := range options {
		o(r, &cfg, &deps)
	}
	server, err := api.New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	check, err := checker.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(server.Handler())
	t.Cleanup(ts.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	r.server, r.url = server, ts.URL
	r.client = &http.Client{
		Transport:     check.RoundTripper(transport, func(err error) { t.Error(err) }),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return r
}

// reply is an answer, read to its end.
type reply struct {
	t      *testing.T
	what   string
	status int
	header http.Header
	raw    []byte
}

// send makes a request; header is a list of names and values.
func (r *rig) send(method, path, body string, header ...string) *reply {
	r.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	return r.sendReader(method, path, reader, header...)
}

func (r *rig) sendReader(method, path string, body io.Reader, header ...string) *reply {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, body)
	if err != nil {
		r.t.Fatal(err)
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	for pair := range slices.Chunk(header, 2) {
		req.Header.Set(pair[0], pair[1])
	}
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return &reply{t: r.t, what: method + " " + path, status: resp.StatusCode, header: resp.Header, raw: raw}
}

func (r *rig) get(path string, header ...string) *reply {
	r.t.Helper()
	return r.send(http.MethodGet, path, "", header...)
}

func (r *rig) put(path, body string, header ...string) *reply {
	r.t.Helper()
	return r.send(http.MethodPut, path, body, header...)
}

func (r *rig) post(path, body string, header ...string) *reply {
	r.t.Helper()
	return r.send(http.MethodPost, path, body, header...)
}

func (r *rig) delete(path string, header ...string) *reply {
	r.t.Helper()
	return r.send(http.MethodDelete, path, "", header...)
}

// is demands a status.
func (r *reply) is(status int) *reply {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("%s: status %d, want %d: %s", r.what, r.status, status, r.raw)
	}
	return r
}

// into decodes the answer, every field of it.
func (r *reply) into(to any) {
	r.t.Helper()
	d := json.NewDecoder(bytes.NewReader(r.raw))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		r.t.Fatalf("%s: %v: %s", r.what, err, r.raw)
	}
}

// refused demands a problem document with a code, its status, and, for each
// path, a mistake there.
func (r *reply) refused(code wire.Code, paths ...string) wire.Problem {
	r.t.Helper()
	var p wire.Problem
	if got := r.header.Get("Content-Type"); got != wire.MediaProblem {
		r.t.Fatalf("%s: status %d, content type %q: %s", r.what, r.status, got, r.raw)
	}
	r.into(&p)
	if p.Code != code || r.status != code.Status() || p.Status != r.status {
		r.t.Fatalf("%s: status %d, code %s, want %s: %s", r.what, r.status, p.Code, code, r.raw)
	}
	var got []string
	for _, e := range p.Errors {
		got = append(got, e.Path)
	}
	if len(paths) > 0 && !slices.Equal(got, paths) {
		r.t.Fatalf("%s: mistakes at %q, want %q", r.what, got, paths)
	}
	return p
}

// decoded returns an answer with a status, decoded.
func decoded[T any](r *reply, status int) T {
	r.t.Helper()
	var v T
	r.is(status).into(&v)
	return v
}

const (
	fleetPath  = "/api/v1/tenants/default/fleets/edge"
	changePath = fleetPath + "/changes"
)

// withFleet makes the fleet edge.
func (r *rig) withFleet() *rig {
	r.t.Helper()
	r.put(fleetPath, "").is(http.StatusCreated)
	return r
}

// cluster and listener are resources as plainResources takes them.
func cluster(name, more string) string {
	return `{"@type":"type.googleapis.com/envoy.config.cluster.v3.Cluster","name":"` + name + `"` + more + `}`
}

func listener(name, more string) string {
	return `{"@type":"type.googleapis.com/envoy.config.listener.v3.Listener","name":"` + name + `"` + more + `}`
}

// change applies resources and returns what changed.
func (r *rig) change(upsert ...string) wire.Changed {
	r.t.Helper()
	return decoded[wire.Changed](r.post(changePath, `{"upsert":[`+strings.Join(upsert, ",")+`]}`), http.StatusCreated)
}
