package archive_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/archive"
	"github.com/org/envoy-control-plane/deploy/local"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// all pages through a query and returns "seq kind by" of each event.
func all(t *testing.T, w *writer, q archive.HistoryQuery) []string {
	t.Helper()
	var out []string
	for pages := 0; ; pages++ {
		events, next, err := w.History(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events {
			out = append(out, fmt.Sprint(ev.Epoch, " ", ev.Seq, " ", ev.Kind, " ", ev.By))
		}
		if next == "" {
			return out
		}
		if len(events) != q.Limit || pages > 1000 {
			t.Fatalf("%d events on page %d that has a next one, limit %d", len(events), pages, q.Limit)
		}
		q.Cursor = next
	}
}

func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("got\n %s\nwant\n %s", strings.Join(got, "\n "), strings.Join(want, "\n "))
	}
}

func TestHistoryPagesAndSelects(t *testing.T) {
	t.Parallel()
	dsn, l := local.TestDatabase(t), newLog(t, "c", "e")
	l.do(&fsmpb.Command{By: "root", Op: &fsmpb.Command_PutTenant{PutTenant: &fsmpb.PutTenant{Name: "acme"}}})
	w := l.start(dsn, 1)
	l.drained()
	for i := range 10 {
		l.putFleet("acme", fmt.Sprint("f", i%2), "ann")
		l.putFleet("default", "edge", "eve")
	}
	l.advance(time.Hour)
	later := l.stamp
	l.putFleet("acme", "f1", "bob")
	l.drained()
	whole := all(t, w, archive.HistoryQuery{Tenant: "acme", Limit: 1000})
	if len(whole) != 12 {
		t.Fatalf("%d events: %q", len(whole), whole)
	}
	for limit := 1; limit <= 12; limit++ {
		wantLines(t, all(t, w, archive.HistoryQuery{Tenant: "acme", Limit: limit}), whole...)
	}
	events, _, err := w.History(t.Context(), archive.HistoryQuery{Tenant: "acme", Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	st := l.State()
	ev := events[0]
	if ev.Seq != st.Seq() || ev.TenantSeq != 12 || ev.Index == 0 || ev.Tenant != "acme" || ev.Fleet != "f1" ||
		ev.Kind != "fleet_put" || ev.By != "bob" || !strings.Contains(string(ev.Data), `"labels"`) || ev.At.Before(later) {
		t.Fatalf("event %+v", ev)
	}
	for name, c := range map[string]struct {
		q    archive.HistoryQuery
		want int
	}{
		"fleet":   {archive.HistoryQuery{Fleet: "f1"}, 6},
		"kind":    {archive.HistoryQuery{Kind: "tenant_put"}, 1},
		"by":      {archive.HistoryQuery{By: "ann"}, 10},
		"since":   {archive.HistoryQuery{Since: later}, 1},
		"until":   {archive.HistoryQuery{Until: later}, 11},
		"nothing": {archive.HistoryQuery{By: "eve"}, 0},
	} {
		c.q.Tenant, c.q.Limit = "acme", 100
		if got := all(t, w, c.q); len(got) != c.want {
			t.Errorf("%s: %d events, want %d: %q", name, len(got), c.want, got)
		}
	}
	wantLines(t, all(t, w, archive.HistoryQuery{Kind: "cluster_initialized"}), "e 1 cluster_initialized cluster")
}

// What is not stored yet comes from memory, without a hole or a double between.
func TestHistoryIsNeverBehind(t *testing.T) {
	t.Parallel()
	dsn, l := local.TestDatabase(t), newLog(t, "c", "e")
	w := l.start(dsn, 1)
	for range 5 {
		l.putFleet("default", "edge", "ann")
	}
	l.drained()
	w.lead(false, 1)
	time.Sleep(50 * time.Millisecond)
	for range 5 {
		l.putFleet("default", "edge", "bob")
	}
	q := archive.HistoryQuery{Tenant: "default"}
	q.Limit = 100
	got := all(t, w, q)
	if len(got) != 10 || strings.Count(strings.Join(got, "\n"), "bob") != 5 {
		t.Fatalf("got %q", got)
	}
	for q.Limit = 1; q.Limit < 11; q.Limit++ {
		wantLines(t, all(t, w, q), got...)
	}
	w.lead(true, 2)
	for i := range 200 {
		if i%10 == 0 {
			l.putFleet("default", "edge", "ann")
		}
		q.Limit = 1 + i%7
		got := all(t, w, q)
		for j := 1; j < len(got); j++ {
			if seqOf(t, got[j]) != seqOf(t, got[j-1])-1 && seqOf(t, got[j]) != seqOf(t, got[j-1])-2 {
				t.Fatalf("%q after %q", got[j], got[j-1])
			}
		}
	}
}

func seqOf(t *testing.T, line string) (n int) {
	t.Helper()
	if _, err := fmt.Sscanf(line, "e %d", &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A cluster seeded from a backup has its own rows, and its parent's up to
// where it branched off.
func TestEpochsBranch(t *testing.T) {
	t.Parallel()
	dsn, l := local.TestDatabase(t), newLog(t, "c", "e")
	w := l.start(dsn, 1)
	l.drained()
	l.putFleet("default", "edge", "ann")
	l.report(connected("p1", 1))
	l.drained()
	branched := l.State().Seq()
	child := l.branch(&fsmpb.Identity{
		ClusterId: "c2", Epoch: "e2", ParentClusterId: "c", ParentEpoch: "e", ParentSeq: branched,
	})
	l.putFleet("default", "edge", "lost") // not part of the child's past
	l.drained()
	child.putFleet("default", "edge", "bob")
	w2 := child.start(dsn, 1)
	child.drained()
	d := open(t, dsn)
	d.wantOnce("e2", branched, child.State().Seq())
	d.wantOnce("e", 0, l.State().Seq())
	d.want(fmt.Sprintf("c e %d %d", branched, branched+1),
		"SELECT concat_ws(' ', parent_cluster, parent_epoch, parent_seq, first_seq) FROM archive_epochs WHERE epoch = 'e2'")
	d.want("p1 connected", "SELECT concat_ws(' ', id, status) FROM envoy_proxies WHERE epoch = 'e2'")
	d.want("0", "SELECT count(*) FROM archive_gaps")
	for limit := 1; limit < 5; limit++ {
		got := all(t, w2, archive.HistoryQuery{Tenant: "default", Limit: limit})
		wantLines(t, got,
			fmt.Sprintf("e2 %d fleet_put bob", branched+1),
			fmt.Sprintf("e %d proxy_connected xds", branched),
			fmt.Sprintf("e %d fleet_put ann", branched-1))
	}
	// A cursor of the other branch is none of this one.
	_, next, err := w2.History(t.Context(), archive.HistoryQuery{Tenant: "default", Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.History(t.Context(), archive.HistoryQuery{Tenant: "default", Cursor: next}); fsm.CodeOf(err) != fsm.CodeEpochChanged {
		t.Fatalf("got %v", err)
	}
}

// A child whose parent is not archived here stores what it still has of it.
func TestEpochWithAnUnknownParent(t *testing.T) {
	t.Parallel()
	dsn, l := local.TestDatabase(t), newLog(t, "c", "e")
	l.putFleet("default", "edge", "ann")
	child := l.branch(&fsmpb.Identity{ClusterId: "c2", Epoch: "e2", ParentClusterId: "c", ParentEpoch: "e", ParentSeq: l.State().Seq()})
	child.putFleet("default", "edge", "bob")
	w := child.start(dsn, 1)
	child.drained()
	open(t, dsn).wantOnce("e2", 0, child.State().Seq())
	wantLines(t, all(t, w, archive.HistoryQuery{Tenant: "default", Limit: 2}), "e2 3 fleet_put bob", "e2 2 fleet_put ann")
}

func TestTwoClustersShareADatabase(t *testing.T) {
	t.Parallel()
	dsn := local.TestDatabase(t)
	a, b := newLog(t, "a", "ea"), newLog(t, "b", "eb")
	wa, wb := a.start(dsn, 1), b.start(dsn, 1)
	for range 20 {
		a.putFleet("default", "edge", "ann")
		b.putFleet("default", "edge", "bob")
	}
	a.drained()
	b.drained()
	d := open(t, dsn)
	d.wantOnce("ea", 0, a.State().Seq())
	d.wantOnce("eb", 0, b.State().Seq())
	if n := len(all(t, wa, archive.HistoryQuery{Tenant: "default", Limit: 100, By: "bob"})); n != 0 {
		t.Fatalf("a has %d events of b", n)
	}
	if n := len(all(t, wb, archive.HistoryQuery{Tenant: "default", Limit: 100})); n != 20 {
		t.Fatalf("b has %d events", n)
	}
}

func TestHistoryRefuses(t *testing.T) {
	t.Parallel()
	l := newLog(t, "c", "e")
	w := l.start(local.TestDatabase(t), 1)
	l.drained()
	for name, q := range map[string]archive.HistoryQuery{
		"limit too large":  {Limit: 1001},
		"negative limit":   {Limit: -1},
		"no cursor":        {Cursor: "x!"},
		"cursor no number": {Cursor: "eEBl"},
		"cursor at zero":   {Cursor: "MEBl"},
	} {
		if _, _, err := w.History(t.Context(), q); fsm.CodeOf(err) != fsm.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.stop()
	if _, _, err := w.History(t.Context(), archive.HistoryQuery{}); fsm.CodeOf(err) != fsm.CodeUnavailable {
		t.Errorf("stopped: %v", err)
	}
}
