package archive_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/org/envoy-control-plane/archive"
	"github.com/org/envoy-control-plane/deploy/local"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// TestEventsInOrder: from any event of a tenant on, over tenants that take
// turns and over a branch of the history.
func TestEventsInOrder(t *testing.T) {
	t.Parallel()
	dsn, l := local.TestDatabase(t), newLog(t, "c", "e")
	l.do(&fsmpb.Command{By: "root", Op: &fsmpb.Command_PutTenant{PutTenant: &fsmpb.PutTenant{Name: "acme"}}})
	l.start(dsn, 1)
	put := func(l *log, n int) {
		for i := range n {
			l.putFleet([]string{"acme", "default", "default"}[rand.IntN(3)], fmt.Sprint("f", i%3), "ann")
		}
	}
	put(l, 40)
	l.drained()
	branched := l.State().Seq()
	child := l.branch(&fsmpb.Identity{
		ClusterId: "c2", Epoch: "e2", ParentClusterId: "c", ParentEpoch: "e", ParentSeq: branched,
	})
	put(l, 5) // no part of the child's past
	l.drained()
	w := child.start(dsn, 1)
	put(child, 40)
	child.drained()

	for _, tenant := range []string{"acme", "default"} {
		last := child.State().TenantSeq(tenant)
		for after := range last + 2 {
			for _, limit := range []int{1, 7, 1000} {
				events, err := w.EventsAfter(t.Context(), tenant, after, limit)
				if err != nil {
					t.Fatal(err)
				}
				if want := min(limit, int(last-min(after, last))); len(events) != want {
					t.Fatalf("%s after %d: %d events, want %d", tenant, after, len(events), want)
				}
				for i, ev := range events {
					if ev.TenantSeq != after+1+uint64(i) || ev.Tenant != tenant {
						t.Fatalf("%s after %d: event %d is %+v", tenant, after, i, ev)
					}
				}
			}
		}
		all, err := w.EventsAfter(t.Context(), tenant, 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for index := range child.State().Index() + 2 {
			want := uint64(0)
			for _, ev := range all {
				if ev.Index <= index {
					want = ev.TenantSeq
				}
			}
			if got, err := w.NumberAt(t.Context(), tenant, index); err != nil || got != want {
				t.Fatalf("%s up to index %d: %d, %v, want %d", tenant, index, got, err, want)
			}
		}
	}
}

// TestOwnEventsInOrder: those of the cluster say how far they are whole.
func TestOwnEventsInOrder(t *testing.T) {
	t.Parallel()
	dsn, l := local.TestDatabase(t), newLog(t, "c", "e")
	w := l.start(dsn, 1)
	l.do(&fsmpb.Command{Op: &fsmpb.Command_RaiseLevel{RaiseLevel: &fsmpb.RaiseLevel{Level: fsm.SupportedLevel}}})
	for range 3 {
		l.putFleet("default", "edge", "ann")
		l.do(&fsmpb.Command{Op: &fsmpb.Command_SetReadOnly{SetReadOnly: &fsmpb.SetReadOnly{ReadOnly: true}}})
		l.do(&fsmpb.Command{Op: &fsmpb.Command_SetReadOnly{SetReadOnly: &fsmpb.SetReadOnly{}}})
	}
	l.drained()
	own := func(after uint64, limit int) ([]*archive.Event, uint64) {
		t.Helper()
		events, through, err := w.OwnEventsAfter(t.Context(), after, limit)
		if err != nil {
			t.Fatal(err)
		}
		return events, through
	}
	events, through := own(0, 100)
	if len(events) < 7 || through != l.State().Seq() {
		t.Fatalf("%d events through %d", len(events), through)
	}
	for i, ev := range events {
		if ev.Tenant != "" || i > 0 && ev.Seq <= events[i-1].Seq {
			t.Fatalf("event %d is %+v", i, ev)
		}
		rest, _ := own(ev.Seq, 100)
		if len(rest) != len(events)-1-i {
			t.Fatalf("after %d there are %d", ev.Seq, len(rest))
		}
		if number, err := w.NumberAt(t.Context(), "", ev.Index); err != nil || number < ev.Seq {
			t.Fatalf("up to index %d: %d, %v", ev.Index, number, err)
		}
	}
	open(t, dsn).run(`INSERT INTO archive_gaps (cluster, epoch, from_seq, to_seq, node) VALUES ('c', 'e', 5, 6, 'n')`)
	for after, want := range map[uint64]uint64{0: 4, 4: 4, 5: 5, 6: l.State().Seq()} {
		if _, through := own(after, 100); through != want {
			t.Errorf("after %d it is whole through %d, want %d", after, through, want)
		}
	}
}
