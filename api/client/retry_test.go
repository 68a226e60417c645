package client

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
)

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

// Read-only lasts as long as an operator likes: nobody waits for its end. A
// write before it may still have passed.
func TestReadOnlyIsFinal(t *testing.T) {
	for _, breaks := range []bool{false, true} {
		url, rec := serve(t, func(w http.ResponseWriter, _ *http.Request, n int) {
			if breaks && n == 1 {
				hangUp(w)
				return
			}
			refuse(w, wire.CodeReadOnly, "5")
		})
		_, err := newClient(t, Options{Servers: []string{url, url}}).Change(t.Context(), "edge", wire.ChangeSet{}, ChangeOptions{})
		if CodeOf(err) != wire.CodeReadOnly || errors.Is(err, ErrOutcomeUnknown) != breaks {
			t.Errorf("broken %v: error is %v", breaks, err)
		}
		want := 1
		if breaks {
			want = 2
		}
		if len(rec.all()) != want {
			t.Errorf("broken %v: asked %d times, want %d", breaks, len(rec.all()), want)
		}
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

// TestManyCallersFailOverTogether has goroutines share a client while the
// server that they are at goes away.
func TestManyCallersFailOverTogether(t *testing.T) {
	var gone atomic.Bool
	first, _ := serve(t, func(w http.ResponseWriter, _ *http.Request, n int) {
		if gone.Load() {
			hangUp(w)
			return
		}
		reply(w, http.StatusOK, uint64(n), map[string]any{})
	})
	second, rec := serve(t, func(w http.ResponseWriter, _ *http.Request, n int) {
		reply(w, http.StatusOK, uint64(1000+n), map[string]any{})
	})
	c := newClient(t, Options{Servers: []string{first, second}})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 40 {
				if i == 20 {
					gone.Store(true)
				}
				if _, err := c.InTenant("acme").PutFleet(t.Context(), "edge", wire.FleetPut{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(rec.all()); n == 0 || c.Index() != uint64(1000+n) {
		t.Errorf("the second server answered %d times, the client is at %d", n, c.Index())
	}
}
