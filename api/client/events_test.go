package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

// streamer is a node that streams the events behind since, some at a time, and
// then ends the stream as it is told to.
type streamer struct {
	last  uint64
	share uint64
	end   func(w http.ResponseWriter)
	asked atomic.Int64
}

func (s *streamer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked.Add(1)
	_, number, _ := strings.Cut("/"+strings.TrimPrefix(r.URL.Query().Get("since"), "e1/"), "/")
	after, err := strconv.ParseUint(number, 10, 64)
	if err != nil || r.Header.Get("Accept") != wire.MediaEvents {
		http.Error(w, "a strange request: "+r.URL.RawQuery, http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", wire.MediaEvents)
	_, _ = fmt.Fprintf(w, "retry: 1000\nid: e1/%d\n\n: ping\nid: e1/%d\n\n", after, after)
	for n := after + 1; n <= min(after+s.share, s.last); n++ {
		raw, _ := json.Marshal(wire.Event{TenantSeq: n, Data: json.RawMessage("{}")})
		_, _ = fmt.Fprintf(w, "id: e1/%d\ndata: %s\n\n", n, raw)
	}
	_ = http.NewResponseController(w).Flush()
	s.end(w)
}

func told(code wire.Code) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		raw, _ := json.Marshal(wire.Problem{Code: code, Status: code.Status(), Detail: "why", Oldest: 7})
		_, _ = fmt.Fprintf(w, "event: error\ndata: %s\n\n", raw)
	}
}

// cut breaks the connection in the middle of an event.
func cut(w http.ResponseWriter) {
	_, _ = w.Write([]byte("id: e1/99\ndata: {\"tena"))
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func streamers(t *testing.T, nodes ...*streamer) *client.Client {
	t.Helper()
	o := client.Options{}
	for _, n := range nodes {
		s := httptest.NewServer(n)
		t.Cleanup(s.Close)
		o.Servers = append(o.Servers, s.URL)
	}
	c, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestEventsGoOnElsewhere: whatever ends a stream that another node can go on
// with, no event is missing or comes twice.
func TestEventsGoOnElsewhere(t *testing.T) {
	nodes := []*streamer{
		{last: 1000, share: 3, end: cut},
		{last: 1000, share: 4, end: told(wire.CodeUnavailable)},
		{last: 1000, share: 2, end: func(http.ResponseWriter) {}},
		{last: 1000, share: 1, end: told(wire.CodeTooSlow)},
	}
	c := streamers(t, nodes...)
	var got []uint64
	for ev, err := range c.Events(t.Context(), client.EventQuery{Since: "5"}) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, ev.TenantSeq); len(got) == 30 {
			break
		}
	}
	for i, n := range got {
		if n != uint64(i)+6 {
			t.Fatalf("events %v", got)
		}
	}
	for i, n := range nodes {
		if n.asked.Load() < 2 {
			t.Errorf("node %d was asked %d times", i, n.asked.Load())
		}
	}
}

// TestEventsEnd: what no other node would say otherwise is the end.
func TestEventsEnd(t *testing.T) {
	for _, code := range []wire.Code{wire.CodeEpochChanged, wire.CodeEventsGone, wire.CodeUnauthenticated} {
		c := streamers(t, &streamer{last: 9, share: 9, end: told(code)})
		got, err := client.Collect(c.Events(t.Context(), client.EventQuery{Since: "7"}))
		e, ok := errors.AsType[*client.Error](err)
		if len(got) != 2 || !ok || e.Code != code || e.Status != code.Status() || e.Oldest != 7 {
			t.Errorf("%s: %d events, then %+v", code, len(got), err)
		}
	}
	c := streamers(t, &streamer{last: 9, share: 9, end: func(http.ResponseWriter) {}})
	got, err := client.Collect(c.Events(t.Context(), client.EventQuery{Since: "0", Once: true}))
	if len(got) != 9 || err != nil {
		t.Errorf("once: %d events, %v", len(got), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	waiting := &streamer{last: 9, share: 9, end: func(http.ResponseWriter) { <-ctx.Done() }}
	c = streamers(t, waiting)
	var kinds []string
	for ev, err := range c.Events(ctx, client.EventQuery{Since: "8"}) {
		if err != nil {
			kinds = append(kinds, strconv.FormatBool(errors.Is(err, context.Canceled)))
			continue
		}
		kinds = append(kinds, strconv.FormatUint(ev.TenantSeq, 10))
		cancel()
	}
	if !slices.Equal(kinds, []string{"9", "true"}) {
		t.Errorf("given up: %v", kinds)
	}
}
