package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// TestEvents: in all formats, what there is, and to the end of following.
func TestEvents(t *testing.T) {
	s, l := startAPI(t, "")
	for _, name := range []string{"edge", "mesh"} {
		ecpctl(t, s, "", "create", "fleet", name).exits(exitDone)
	}
	ecpctl(t, s, "", "events").exits(exitDone).prints("KIND", "fleet_put", "edge", "mesh", "created")
	ecpctl(t, s, "", "events", "--cluster").exits(exitDone).prints("cluster_initialized")
	if _, err := l.Propose(t.Context(), &fsmpb.Command{By: "cluster", Op: &fsmpb.Command_RecordMembership{RecordMembership: &fsmpb.RecordMembership{
		Membership: &fsmpb.Membership{Leader: "cp-0", Term: 7, Members: []*fsmpb.Member{{Node: "cp-0", ServerId: "cp-0.1", Role: fsmpb.Member_VOTER}}},
		Why:        "it joined",
	}}}); err != nil {
		t.Fatal(err)
	}
	ecpctl(t, s, "", "events", "--cluster").exits(exitDone).
		prints("leader_elected        node cp-0, term 7", "member_added          node cp-0, voter, it joined")
	r := ecpctl(t, s, "", "events", "--since", "1", "-o", "json").exits(exitDone)
	if ev := decode[wire.Event](r); ev.Fleet != "mesh" || ev.TenantSeq != 2 {
		t.Errorf("behind the first: %+v", ev)
	}
	ecpctl(t, s, "", "events", "--fleet", "edge", "--kind", "fleet_put,tenant_put", "-o", "yaml").exits(exitDone).
		prints("---\n", "fleet: edge", "kind: fleet_put")
	ecpctl(t, s, "", "events", "--since", "9").exits(exitFailed).complains("epoch_changed")
	ecpctl(t, s, "", "events", "--kind", "nonsense").exits(exitFailed).complains("query.kind")
	ecpctl(t, s, "", "events", "--since", "now").exits(exitUsage).complains("not the number")
	ecpctl(t, s, "", "events", "--cluster", "--fleet", "edge").exits(exitUsage)

	ctx, interrupt := context.WithCancel(t.Context())
	out, done := &shared{}, make(chan int)
	go func() {
		done <- run(ctx, []string{"--server", s, "events", "--follow", "-o", "json"}, strings.NewReader(""), out, out)
	}()
	for until := time.Now().Add(30 * time.Second); !strings.Contains(out.text(), "late"); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("no event came: %s", out.text())
		}
		ecpctl(t, s, "", "create", "fleet", fmt.Sprint("late-", time.Now().UnixNano())).exits(exitDone)
	}
	interrupt()
	if code := <-done; code != exitDone {
		t.Errorf("interrupted, it exits with %d: %s", code, out.text())
	}
	if strings.Contains(out.text(), `"edge"`) {
		t.Errorf("following begins in the past: %s", out.text())
	}
}

// TestEventsOfWhatIsKept: without --since it begins with the oldest event that
// there is, and says so.
func TestEventsOfWhatIsKept(t *testing.T) {
	c := newCanned(t)
	c.onFunc("GET /tenants/default/events", func(w http.ResponseWriter, r *http.Request, _ []byte) {
		if r.URL.Query().Get("since") == "0" {
			w.Header().Set("Content-Type", wire.MediaProblem)
			w.WriteHeader(http.StatusGone)
			_ = json.NewEncoder(w).Encode(wire.Problem{Code: wire.CodeEventsGone, Status: 410, Oldest: 51})
			return
		}
		w.Header().Set("Content-Type", wire.MediaEvents)
		_, _ = fmt.Fprintf(w, "id: e1/51\ndata: {\"tenant_seq\":51,\"kind\":\"since %s\"}\n\n", r.URL.Query().Get("since"))
	})
	ecpctl(t, c.url, "", "events", "-o", "json").exits(exitDone).prints("since 50").complains("oldest event that is kept is 51")
	ecpctl(t, c.url, "", "events", "--since", "0").exits(exitFailed).complains("events_gone")
}

// shared is a buffer that is read while it is written.
type shared struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *shared) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}
