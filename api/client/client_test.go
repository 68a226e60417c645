package client

import (
	"context"
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
	"time"

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

// counting counts what the client itself sends.
type counting struct {
	next http.RoundTripper
	n    atomic.Int64
}

func (c *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return c.next.RoundTrip(r)
}

func TestNothingIsRepeatedBehindTheClientsBack(t *testing.T) {
	calls := map[string]func(*Client) error{
		"with a body": func(c *Client) error {
			_, err := c.PutFleet(t.Context(), "edge", wire.FleetPut{})
			return err
		},
		"without a body": func(c *Client) error {
			_, err := c.DeleteProxy(t.Context(), "p")
			return err
		},
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			// A first answer makes the connection a used one, the kind that
			// net/http repeats requests of.
			url, rec := serve(t, func(w http.ResponseWriter, _ *http.Request, n int) {
				if n > 1 && n < 4 {
					hangUp(w)
					return
				}
				reply(w, http.StatusOK, 7, map[string]any{})
			})
			sent := &counting{next: newTransport()}
			c := newClient(t, Options{Servers: []string{url}, Transport: sent})
			if _, err := c.Cluster(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := call(c); err != nil {
				t.Fatal(err)
			}
			got := rec.all()[1:]
			if len(got) != 3 || sent.n.Load() != 4 {
				t.Fatalf("%d attempts arrived, the client made %d; want 3 and 3", len(got), sent.n.Load()-1)
			}
			sameKey(t, got)
		})
	}
}

func TestEveryWriteHasAKeyOfItsOwn(t *testing.T) {
	url, rec := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
		reply(w, http.StatusOK, 1, map[string]any{})
	})
	c := newClient(t, Options{Servers: []string{url}, Token: "secret"})
	for range 2 {
		if _, err := c.Change(t.Context(), "edge", wire.ChangeSet{}, ChangeOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	got := rec.all()
	if got[0].key == got[1].key || got[0].key == "" {
		t.Fatalf("keys are %q and %q", got[0].key, got[1].key)
	}
	if got[0].auth != "Bearer secret" || got[0].query["force"][0] != "true" {
		t.Fatalf("sent %+v", got[0])
	}
}

func TestFailoverWhenANodeCannotAnswerNow(t *testing.T) {
	busy, busyRec := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
		refuse(w, wire.CodeNoLeader, "1")
	})
	good, goodRec := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
		reply(w, http.StatusOK, 5, map[string]any{})
	})
	c := newClient(t, Options{Servers: []string{deafAddress(t), busy, good}})
	start := time.Now()
	for range 2 {
		if _, err := c.PutTenant(t.Context(), "acme", wire.TenantPut{}); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(start); took > 900*time.Millisecond {
		t.Errorf("a server that could answer was reached after %v", took)
	}
	if len(busyRec.all()) != 1 || len(goodRec.all()) != 2 {
		t.Errorf("asked %d and %d times; want 1 and 2: the client stays where it was answered",
			len(busyRec.all()), len(goodRec.all()))
	}
	if busyRec.all()[0].key != goodRec.all()[0].key {
		t.Error("the second attempt had another key")
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	url, rec := serve(t, func(w http.ResponseWriter, _ *http.Request, n int) {
		if n == 1 {
			refuse(w, wire.CodeNotLeader, "1")
			return
		}
		reply(w, http.StatusOK, 5, map[string]any{})
	})
	c := newClient(t, Options{Servers: []string{url}})
	start := time.Now()
	if _, err := c.PutTenant(t.Context(), "acme", wire.TenantPut{}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < time.Second || len(rec.all()) != 2 {
		t.Errorf("asked %d times within %v", len(rec.all()), took)
	}
}

func TestWhatAnEndlessFailureMeans(t *testing.T) {
	tests := []struct {
		name    string
		answer  func(w http.ResponseWriter, n int)
		write   bool
		unknown bool
		code    wire.Code
	}{
		{"broken connection, write", func(w http.ResponseWriter, _ int) { hangUp(w) }, true, true, ""},
		{"broken connection, read", func(w http.ResponseWriter, _ int) { hangUp(w) }, false, false, ""},
		{
			"503 with Retry-After, write",
			func(w http.ResponseWriter, _ int) { refuse(w, wire.CodeNoLeader, "0") }, true, false, wire.CodeNoLeader,
		},
		{
			"507 with Retry-After, write",
			func(w http.ResponseWriter, _ int) { refuse(w, wire.CodeStorageFull, "60") }, true, false, wire.CodeStorageFull,
		},
		{"503 of something else, write", func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusServiceUnavailable) }, true, true, ""},
		{
			"504, write",
			func(w http.ResponseWriter, _ int) { refuse(w, wire.CodeOutcomeUnknown, "") },
			true, true, wire.CodeOutcomeUnknown,
		},
		{
			"500, write",
			func(w http.ResponseWriter, _ int) { refuse(w, wire.CodeInternal, "") }, true, true, wire.CodeInternal,
		},
		{"broken once, then certainly not", func(w http.ResponseWriter, n int) {
			if n == 1 {
				hangUp(w)
				return
			}
			refuse(w, wire.CodeNoLeader, "0")
		}, true, true, wire.CodeNoLeader},
		{"broken once, then decided", func(w http.ResponseWriter, n int) {
			if n == 1 {
				hangUp(w)
				return
			}
			refuse(w, wire.CodeRevisionConflict, "")
		}, true, false, wire.CodeRevisionConflict},
		{"broken once, then turned away", func(w http.ResponseWriter, n int) {
			if n == 1 {
				hangUp(w)
				return
			}
			refuse(w, wire.CodeUnauthenticated, "")
		}, true, true, wire.CodeUnauthenticated},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url, _ := serve(t, func(w http.ResponseWriter, _ *http.Request, n int) { tt.answer(w, n) })
			c := newClient(t, Options{Servers: []string{url}, RetryFor: 300 * time.Millisecond})
			var err error
			if tt.write {
				_, err = c.Change(t.Context(), "edge", wire.ChangeSet{}, ChangeOptions{})
			} else {
				_, err = c.GetFleet(t.Context(), "edge")
			}
			if err == nil {
				t.Fatal("no error")
			}
			if got := errors.Is(err, ErrOutcomeUnknown); got != tt.unknown {
				t.Errorf("outcome unknown is %v, want %v: %v", got, tt.unknown, err)
			}
			if got := CodeOf(err); got != tt.code {
				t.Errorf("code is %q, want %q", got, tt.code)
			}
		})
	}
}

func TestARefusalIsFinal(t *testing.T) {
	url, rec := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
		refuse(w, wire.CodeUnknownField, "", wire.FieldError{Path: "upsert[0].nam", Detail: "unknown field"})
	})
	c := newClient(t, Options{Servers: []string{url, url}})
	_, err := c.Change(t.Context(), "edge", wire.ChangeSet{}, ChangeOptions{})
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %v", err)
	}
	if e.Status != 400 || e.Code != wire.CodeUnknownField || e.RequestID != "r1" || len(e.Errors) != 1 {
		t.Errorf("error is %+v", e)
	}
	if want := "unknown_field: about unknown_field\n  upsert[0].nam: unknown field"; err.Error() != want {
		t.Errorf("text is %q, want %q", err, want)
	}
	if len(rec.all()) != 1 {
		t.Errorf("asked %d times", len(rec.all()))
	}
}

func TestADefectIsNotAskedForEver(t *testing.T) {
	url, rec := serve(t, func(w http.ResponseWriter, _ *http.Request, _ int) {
		refuse(w, wire.CodeInternal, "")
	})
	c := newClient(t, Options{Servers: []string{url}})
	if _, err := c.GetFleet(t.Context(), "edge"); CodeOf(err) != wire.CodeInternal {
		t.Fatalf("error is %v", err)
	}
	if len(rec.all()) != 2 {
		t.Errorf("asked %d times, want 2", len(rec.all()))
	}
}

func TestNobodyListens(t *testing.T) {
	c := newClient(t, Options{Servers: []string{deafAddress(t), deafAddress(t)}})
	start := time.Now()
	_, err := c.PutTenant(t.Context(), "acme", wire.TenantPut{})
	if err == nil || errors.Is(err, ErrOutcomeUnknown) {
		t.Fatalf("error is %v; want one that is certain", err)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("gave up after %v", took)
	}
}

func TestTheContextEndsACall(t *testing.T) {
	release := make(chan struct{})
	url, _ := serve(t, func(_ http.ResponseWriter, _ *http.Request, _ int) { <-release })
	t.Cleanup(func() { close(release) }) // before the server closes
	c := newClient(t, Options{Servers: []string{url}})
	for _, write := range []bool{true, false} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		var err error
		if write {
			_, err = c.PutTenant(ctx, "acme", wire.TenantPut{})
		} else {
			_, err = c.GetTenant(ctx, "acme")
		}
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrOutcomeUnknown) != write {
			t.Errorf("write %v: error is %v", write, err)
		}
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
