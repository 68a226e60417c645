package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
)

var errNoLeader = fsm.Refusal(fsm.CodeNoLeader, "no leader")

// archived is an archive's events, in memory.
type archived struct {
	mu     sync.Mutex
	events []wire.Event
	// lost is a tenant_seq that it does not have; down is why it does not answer.
	lost uint64
	down error
}

func (a *archived) set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}

// store takes over what a state retains and is new.
func (a *archived) store(t *testing.T, l *ledger) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	after := uint64(0)
	if len(a.events) > 0 {
		after = a.events[len(a.events)-1].Seq
	}
	for ev := range l.state().Events(after) {
		data, err := fsm.EventData(ev)
		if err != nil {
			t.Fatal(err)
		}
		a.events = append(a.events, wire.Event{
			Seq: ev.Seq, TenantSeq: ev.TenantSeq, Index: ev.Index, At: time.Unix(0, ev.At).UTC(),
			Tenant: ev.Tenant, Fleet: ev.Fleet, Kind: fsm.EventKind(ev), By: ev.By, Data: json.RawMessage(data),
		})
	}
}

func (a *archived) EventsAfter(_ context.Context, tenant string, number uint64, limit int) ([]wire.Event, error) {
	return a.after(func(ev wire.Event) bool {
		return ev.Tenant == tenant && ev.TenantSeq > number && ev.TenantSeq != a.lost
	}, limit)
}

func (a *archived) OwnEventsAfter(_ context.Context, seq uint64, limit int) ([]wire.Event, uint64, error) {
	events, err := a.after(func(ev wire.Event) bool { return ev.Tenant == "" && ev.Seq > seq }, limit)
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.events) == 0 {
		return nil, 0, err
	}
	return events, a.events[len(a.events)-1].Seq, err
}

func (a *archived) after(selects func(wire.Event) bool, limit int) ([]wire.Event, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []wire.Event
	for _, ev := range a.events {
		if selects(ev) && len(out) < limit {
			out = append(out, ev)
		}
	}
	return out, a.down
}

func (a *archived) NumberAt(_ context.Context, tenant string, index uint64) (uint64, error) {
	if tenant != "default" {
		return 0, errors.New("not in these tests")
	}
	return a.behind(index), a.down
}

// behind is the number of the last event of tenant default up to an index.
func (a *archived) behind(index uint64) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, ev := range slices.Backward(a.events) {
		if ev.Tenant == "default" && ev.Index <= index {
			return ev.TenantSeq
		}
	}
	return 0
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for until := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("no %s", what)
		}
	}
}

// subscribers is how many streams the rig's server has.
func (r *rig) subscribers() float64 {
	r.t.Helper()
	return gauge(r.t, r.reg, "ecp_event_subscribers")
}

// cut is how many streams the server ended with a code.
func (r *rig) cut(code wire.Code) float64 {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "ecp_event_subscribers_cut_total" && m.GetLabel()[0].GetValue() == string(code) {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}
