package client

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/org/envoy-control-plane/api/wire"
)

// seen is one request as it reached a server.
type seen struct {
	method, path, key, auth, body string
	query                         map[string][]string
}

// recorder keeps what a server was asked.
type recorder struct {
	mu   sync.Mutex
	list []seen
}

func (r *recorder) add(req *http.Request) int {
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, seen{
		req.Method, req.URL.EscapedPath(), req.Header.Get(wire.HeaderIdempotencyKey),
		req.Header.Get("Authorization"), string(body), req.URL.Query(),
	})
	return len(r.list)
}

func (r *recorder) all() []seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]seen(nil), r.list...)
}

// serve starts a server that answers the n-th request, from 1, by answer.
func serve(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, n int)) (string, *recorder) {
	t.Helper()
	rec := &recorder{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, rec.add(r))
	}))
	t.Cleanup(s.Close)
	return s.URL, rec
}

func newClient(t *testing.T, o Options) *Client {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// reply writes an answer with an index.
func reply(w http.ResponseWriter, status int, index uint64, body any) {
	w.Header().Set("Content-Type", wire.MediaJSON)
	w.Header().Set(wire.HeaderIndex, strconv.FormatUint(index, 10))
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// refuse writes a problem document.
func refuse(w http.ResponseWriter, code wire.Code, retryAfter string, errs ...wire.FieldError) {
	if retryAfter != "" {
		w.Header().Set("Retry-After", retryAfter)
	}
	w.Header().Set("Content-Type", wire.MediaProblem)
	w.WriteHeader(code.Status())
	_ = json.NewEncoder(w).Encode(wire.Problem{
		Status: code.Status(), Code: code, Detail: "about " + string(code), Errors: errs, RequestID: "r1",
	})
}

// hangUp breaks the connection without an answer.
func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

// deafAddress is an address that nothing listens at.
func deafAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return "http://" + l.Addr().String()
}

func sameKey(t *testing.T, list []seen) {
	t.Helper()
	for _, s := range list {
		if len(s.key) != 32 || s.key != list[0].key {
			t.Fatalf("attempts have the keys %q and %q", list[0].key, s.key)
		}
		if s.body != list[0].body {
			t.Fatalf("attempts have the bodies %q and %q", list[0].body, s.body)
		}
	}
}

// An index is sent with the epoch that it was seen in.
func TestEpochOfWhatWasSeen(t *testing.T) {
	type said struct {
		epoch string
		index uint64
	}
	var next said
	var asked string
	url, rec := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		asked = r.Header.Get(wire.HeaderEpoch)
		if asked != "" && asked != next.epoch && r.Method == http.MethodGet {
			refuse(w, wire.CodeEpochChanged, "")
			return
		}
		w.Header().Set(wire.HeaderEpoch, next.epoch)
		reply(w, http.StatusOK, next.index, map[string]any{})
	})
	c := newClient(t, Options{Servers: []string{url}})
	for i, step := range []struct {
		says      said
		write     bool
		wantEpoch string // of the request
		wantIndex string
		wantErr   wire.Code
	}{
		{says: said{"a", 10}},
		{says: said{"a", 12}, wantEpoch: "a", wantIndex: "10"},
		// A restore: the write is of another epoch, and a read goes on from it.
		{says: said{"b", 20}, write: true},
		{says: said{"b", 20}, wantEpoch: "b", wantIndex: "20"},
		// A recovery, heard of by a read: indexes may be lower.
		{says: said{"c", 15}, wantEpoch: "b", wantIndex: "20", wantErr: wire.CodeEpochChanged},
		{says: said{"c", 15}},
		{says: said{"c", 16}, wantEpoch: "c", wantIndex: "15"},
	} {
		next = step.says
		var err error
		if step.write {
			_, err = c.PutFleet(t.Context(), "edge", wire.FleetPut{})
		} else {
			_, err = c.GetFleet(t.Context(), "edge")
		}
		list := rec.all()
		index := strings.Join(list[len(list)-1].query["min_index"], ",")
		if CodeOf(err) != step.wantErr || asked != step.wantEpoch || index != step.wantIndex {
			t.Errorf("step %d: %v, asked with epoch %q and index %q", i, err, asked, index)
		}
	}
	if c.Index() != 16 {
		t.Errorf("the index is %d", c.Index())
	}
}

func TestReadsAskForWhatWasSeen(t *testing.T) {
	var status, index atomic.Int64
	status.Store(200)
	url, rec := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
		if status.Load() == 410 {
			refuse(w, wire.CodeEpochChanged, "")
			return
		}
		reply(w, http.StatusOK, uint64(index.Load()), map[string]any{})
	})
	c := newClient(t, Options{Servers: []string{url}})
	read := func() string {
		_, _ = c.InTenant("other").GetFleet(t.Context(), "edge")
		list := rec.all()
		if got := list[len(list)-1].query["min_index"]; got != nil {
			return got[0]
		}
		return ""
	}
	if got := read(); got != "" {
		t.Errorf("the first read has min_index %q", got)
	}
	index.Store(41)
	if _, err := c.PutFleet(t.Context(), "edge", wire.FleetPut{}); err != nil {
		t.Fatal(err)
	}
	index.Store(12)
	if got := read(); got != "41" {
		t.Errorf("after a write the min_index is %q, want 41", got)
	}
	if got := read(); got != "41" || c.Index() != 41 {
		t.Errorf("a lower index was taken: %q, %d", got, c.Index())
	}
	if _, err := c.Version(t.Context()); err != nil {
		t.Fatal(err)
	}
	if list := rec.all(); len(list[len(list)-1].query) != 0 {
		t.Errorf("version was asked with %v", list[len(list)-1].query)
	}
	status.Store(410)
	read()
	if got := read(); got != "" {
		t.Errorf("after a restore the min_index is %q", got)
	}
}

func TestStrongReads(t *testing.T) {
	url, rec := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
		reply(w, http.StatusOK, 3, map[string]any{})
	})
	c := newClient(t, Options{Servers: []string{url}, Strong: true})
	for range 2 {
		if _, err := c.Cluster(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range rec.all() {
		if s.query["consistency"][0] != "strong" || s.query["min_index"] != nil {
			t.Errorf("sent %v", s.query)
		}
	}
}

func TestListsAreReadToTheirEnd(t *testing.T) {
	url, rec := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		switch r.URL.Query().Get("cursor") {
		case "":
			reply(w, 200, 1, wire.List[wire.Proxy]{Items: []wire.Proxy{{ID: "a"}, {ID: "b"}}, Next: "two"})
		case "two":
			reply(w, 200, 1, wire.List[wire.Proxy]{Items: []wire.Proxy{{ID: "c"}}, Next: "three"})
		default:
			refuse(w, wire.CodeInvalidCursor, "")
		}
	})
	c := newClient(t, Options{Servers: []string{url}})
	got, err := Collect(c.Proxies(t.Context(), ProxyQuery{Fleet: "edge", Status: wire.StatusConnected}))
	if len(got) != 3 || got[2].ID != "c" || CodeOf(err) != wire.CodeInvalidCursor {
		t.Fatalf("got %v and %v", got, err)
	}
	if q := rec.all()[1].query; q["fleet"][0] != "edge" || q["status"][0] != "connected" || q["limit"] == nil {
		t.Errorf("the second page was asked with %v", q)
	}
	for _, err := range c.Proxies(t.Context(), ProxyQuery{}) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	if n := len(rec.all()); n != 4 {
		t.Errorf("a list that was left early made %d requests in all, want 4", n)
	}
}

func TestNamesKeepTheirCharacters(t *testing.T) {
	url, rec := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
		reply(w, http.StatusOK, 1, map[string]any{})
	})
	c := newClient(t, Options{Servers: []string{url}})
	key := wire.ResourceKey{Type: "type.googleapis.com/envoy.config.cluster.v3.Cluster", Name: "a/b c%2Fü?#;"}
	if _, err := c.GetResource(t.Context(), "edge", key, 4); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteProxy(t.Context(), ".."); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"/api/v1/tenants/default/fleets/edge/resources/envoy.config.cluster.v3.Cluster/a%2Fb%20c%252F%C3%BC%3F%23%3B",
		"/api/v1/tenants/default/proxies/%2E%2E",
	}
	for i, s := range rec.all() {
		if s.path != want[i] {
			t.Errorf("path is %s, want %s", s.path, want[i])
		}
	}
	if rec.all()[0].query["revision"][0] != "4" {
		t.Errorf("query is %v", rec.all()[0].query)
	}
}

func TestAnswersOfStrangers(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request, _ int) {
		if r.Method == http.MethodPut {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
			return
		}
		_, _ = io.WriteString(w, "<html>\n<b>Welcome</b></html>")
	})
	c := newClient(t, Options{Servers: []string{url}})
	_, err := c.GetFleet(t.Context(), "edge")
	if want := url + " answered 200 OK: this is not an answer of the API: <html> <b>Welcome</b></html>"; err == nil ||
		err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
	var e *Error
	if _, err := c.PutFleet(t.Context(), "edge", wire.FleetPut{}); !errors.As(err, &e) || e.Status != 307 {
		t.Errorf("error is %v", err)
	}
}

func TestReadyIsAnAnswerEitherWay(t *testing.T) {
	url, rec := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
		reply(w, http.StatusServiceUnavailable, 0, wire.Ready{Node: "n1", Parts: []wire.Part{{Name: "raft"}}})
	})
	c := newClient(t, Options{Servers: []string{url}})
	got, err := c.Ready(t.Context())
	if err != nil || got.Ready || got.Node != "n1" || len(rec.all()) != 1 {
		t.Fatalf("got %+v, %v after %d requests", got, err, len(rec.all()))
	}
}

func TestABodyOverTheLimitIsNotSent(t *testing.T) {
	url, rec := serve(t, func(http.ResponseWriter, *http.Request, int) {})
	c := newClient(t, Options{Servers: []string{url}})
	big := json.RawMessage(`"` + strings.Repeat("a", wire.MaxBodyBytes) + `"`)
	_, err := c.PutEndpoints(t.Context(), "web", big)
	if CodeOf(err) != wire.CodeBodyTooLarge || len(rec.all()) != 0 {
		t.Errorf("error is %v after %d requests", err, len(rec.all()))
	}
}

func TestServersAreChecked(t *testing.T) {
	for _, server := range []string{"", "ftp://host", "http://", "http://a b", "http://u:p@host", "http://h?x=1"} {
		if _, err := New(Options{Servers: []string{server}}); err == nil {
			t.Errorf("%q was taken", server)
		}
	}
	if _, err := New(Options{}); err == nil {
		t.Error("no server was taken")
	}
	c := newClient(t, Options{Servers: []string{"host:8080/", "https://h/base/"}})
	if c.servers[0] != "http://host:8080" || c.servers[1] != "https://h/base" || c.Tenant() != "default" {
		t.Errorf("servers are %v", c.servers)
	}
}
