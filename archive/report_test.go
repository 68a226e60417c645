package archive_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/archive"
	"github.com/org/envoy-control-plane/deploy/local"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// everything pages through a report with a limit.
func everything[T any](t *testing.T, q archive.ReportQuery, ask func(context.Context, archive.ReportQuery) (*archive.Report[T], error)) []T {
	t.Helper()
	var out []T
	for pages := 0; ; pages++ {
		r, err := ask(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r.Items...)
		if r.Next == "" {
			return out
		}
		if len(r.Items) != q.Limit || pages > 1000 {
			t.Fatalf("%d rows on page %d that has a next one, limit %d", len(r.Items), pages, q.Limit)
		}
		q.Cursor = r.Next
	}
}

// digested waits until the digest has all that is stored.
func (d db) digested(l *log) {
	d.t.Helper()
	l.drained()
	eventually(d.t, "all is digested", func() bool {
		return d.text(`SELECT seq FROM archive_digests ORDER BY first_at DESC, seq DESC LIMIT 1`) == fmt.Sprint(l.State().ArchivedSeq())
	})
}

func converged(revision uint64, at time.Time, synced, rejected, left uint32, reached ...*fsmpb.Reached) *fsmpb.Convergence {
	return &fsmpb.Convergence{
		Tenant: "default", Fleet: "edge", Revision: revision, CommittedAt: at.UnixNano(), Expected: 10,
		Synced: synced, Rejected: rejected, Departed: left, Reached: reached,
	}
}

// say reports convergence as a node.
func (l *log) say(node string, c ...*fsmpb.Convergence) {
	l.t.Helper()
	l.batch++
	l.do(&fsmpb.Command{By: "xds", Op: &fsmpb.Command_ReportProxies{ReportProxies: &fsmpb.ReportProxies{
		Node: node, NodeStart: 1, Batch: l.batch, Convergence: c,
	}}})
}

func raised(t *testing.T, cluster, epoch string, at time.Time) *log {
	l := newLogAt(t, cluster, epoch, at)
	l.do(&fsmpb.Command{Op: &fsmpb.Command_RaiseLevel{RaiseLevel: &fsmpb.RaiseLevel{Level: fsm.SupportedLevel}}})
	return l
}

// reads waits until the archive answers: a writer that finds all done may not
// have come to that yet.
func (w *writer) reads() {
	w.t.Helper()
	eventually(w.t, "it reads", func() bool {
		_, err := w.Changes(w.t.Context(), archive.ReportQuery{Tenant: "default"})
		return err == nil
	})
}

func TestConvergenceIsReported(t *testing.T) {
	t.Parallel()
	dsn, l := local.TestDatabase(t), raised(t, "c", "e", time.Now())
	l.putFleet("default", "edge", "ann")
	for i := range 5 {
		l.change("edge", []*fsmpb.Resource{cluster("a", fmt.Sprint(i))})
	}
	info := func(n uint64) time.Time {
		r, _ := l.State().Revision("default", "edge", n)
		return time.Unix(0, r.Info.At)
	}
	fast, slow := &fsmpb.Reached{WithinMs: 10, Streams: 8}, &fsmpb.Reached{WithinMs: 1023, Streams: 1}
	first := converged(1, info(1), 9, 0, 1, fast, slow)
	first.Slowest = []*fsmpb.SlowProxy{{Proxy: "p9", AfterMs: 1000}, {Proxy: "p8", AfterMs: 9}}
	l.say("n1", converged(1, info(1), 5, 0, 0, fast), converged(2, info(2), 8, 1, 0, fast)) // replaced, and one pending
	l.say("n1", first)
	second := converged(1, info(1), 10, 0, 0, &fsmpb.Reached{WithinMs: 20, Streams: 10})
	second.Slowest = []*fsmpb.SlowProxy{{Proxy: "q1", AfterMs: 20}}
	l.say("n2", second)
	w := l.start(dsn, 1)
	open(t, dsn).digested(l)
	for limit := 1; limit < 7; limit++ {
		all := everything(t, archive.ReportQuery{Tenant: "default", Limit: limit}, w.Convergence)
		var lines []string
		for _, c := range all {
			lines = append(lines, fmt.Sprintln(c.Revision, c.Expected, c.Synced, c.Rejected, c.Departed, c.Pending, c.Converged, c.P50, c.P99, c.Max, c.By))
		}
		want := []string{
			"5 0 0 0 0 0 false 0s 0s 0s ann\n", "4 0 0 0 0 0 false 0s 0s 0s ann\n", "3 0 0 0 0 0 false 0s 0s 0s ann\n",
			"2 10 8 1 0 1 false 10ms 10ms 0s ann\n", "1 20 19 0 1 0 true 20ms 1s 1s ann\n",
		}
		wantLines(t, lines, want...)
		if got := all[4].Slowest; len(got) != 3 || got[0] != (archive.SlowProxy{Proxy: "p9", Node: "n1", After: time.Second}) || got[1].Node != "n2" {
			t.Fatalf("slowest %v", got)
		}
	}
	if got := everything(t, archive.ReportQuery{Tenant: "default", Fleet: "other", Limit: 9}, w.Convergence); len(got) != 0 {
		t.Fatalf("of another fleet: %v", got)
	}
}

func TestChangesAndRejectionsAreReported(t *testing.T) {
	t.Parallel()
	dsn, l := local.TestDatabase(t), newLogAt(t, "c", "e", time.Now().Add(-48*time.Hour))
	l.putFleet("default", "edge", "ann")
	l.report(connected("p1", 1), connected("p2", 2))
	l.change("edge", []*fsmpb.Resource{cluster("a", "1"), cluster("b", "1")})
	l.advance(24 * time.Hour)
	later := l.stamp
	for i := range 3 {
		l.report(rejected("p1", 1, "no such filter"), rejected("p2", 2, fmt.Sprint("bad port ", i%2)))
	}
	l.putFleet("default", "mesh", "bob")
	w := l.start(dsn, 1)
	open(t, dsn).digested(l)
	for limit := 1; limit < 5; limit++ {
		var lines []string
		for _, c := range everything(t, archive.ReportQuery{Tenant: "default", Limit: limit}, w.Changes) {
			lines = append(lines, fmt.Sprint(c.Kind, " ", c.Fleet, " ", c.By, " ", c.Changes, strings.Count(string(c.Changed), "added")))
		}
		wantLines(t, lines, "fleet_put mesh bob 0 0", "revision_created edge ann 2 2", "fleet_put edge ann 0 0")
		lines = nil
		for _, r := range everything(t, archive.ReportQuery{Tenant: "default", Limit: limit}, w.Rejections) {
			lines = append(lines, fmt.Sprint(r.Fleet, " ", r.Type, " ", r.Detail, " ", r.Count, " ", r.Proxies, " ", r.Proxy, " ", r.LastRevision))
		}
		wantLines(t, lines, "edge listener no such filter 3 1 p1 1", "edge listener bad port 0 2 1 p2 1", "edge listener bad port 1 1 1 p2 1")
	}
	for name, c := range map[string]struct {
		q    archive.ReportQuery
		want int
	}{
		"fleet": {archive.ReportQuery{Fleet: "mesh"}, 1}, "by": {archive.ReportQuery{By: "ann"}, 2}, "since": {archive.ReportQuery{Since: later}, 1},
		"kind": {archive.ReportQuery{Kind: "fleet_put"}, 2}, "until": {archive.ReportQuery{Until: later}, 2},
	} {
		c.q.Tenant = "default"
		if r, err := w.Changes(t.Context(), c.q); err != nil || len(r.Items) != c.want {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	for name, q := range map[string]archive.ReportQuery{
		"too long": {Since: later.AddDate(-2, 0, 0)}, "backwards": {Since: later, Until: later.Add(-time.Hour)},
		"limit": {Limit: 1001}, "cursor": {Cursor: "zzz"},
	} {
		if _, err := w.Changes(t.Context(), q); fsm.CodeOf(err) != fsm.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Reports of a cluster that goes on from another's history go on, too; what
// the other does later is none of its past.
func TestReportsFollowTheLineage(t *testing.T) {
	t.Parallel()
	began := time.Now().Add(-100 * time.Hour).Truncate(time.Millisecond)
	dsn, l := local.TestDatabase(t), newLogAt(t, "c", "e", began)
	l.putFleet("default", "edge", "ann")
	l.report(connected("p1", 1))
	l.report(rejected("p1", 1, "before"))
	d := open(t, dsn)
	w := l.start(dsn, 1)
	d.digested(l)
	w.stop()
	l.advance(50 * time.Hour)
	child := l.branch(&fsmpb.Identity{ClusterId: "c", Epoch: "e2", ParentClusterId: "c", ParentEpoch: "e", ParentSeq: l.State().Seq()})
	child.putFleet("default", "edge", "bob")
	child.report(rejected("p1", 1, "after"))
	w2 := child.start(dsn, 2)
	d.digested(child)
	for limit := 1; limit < 4; limit++ {
		changes := everything(t, archive.ReportQuery{Tenant: "default", Limit: limit}, w2.Changes)
		if len(changes) != 2 || changes[0].By != "bob" || changes[1].By != "ann" {
			t.Fatalf("changes %+v", changes)
		}
		if got := everything(t, archive.ReportQuery{Tenant: "default", Limit: limit}, w2.Rejections); len(got) != 2 {
			t.Fatalf("rejections %+v", got)
		}
	}
	total := 0.0
	for _, p := range everything(t, archive.ReportQuery{Tenant: "default", Limit: 2}, w2.Proxies) {
		total += p.Connected * p.To.Sub(p.From).Hours()
	}
	if want := time.Since(began).Hours(); math.Abs(total-want) > 0.01 {
		t.Fatalf("p1 was connected for %v hours, want %v", total, want)
	}
}

// What an older node stored, and what was there before the tables were, is
// digested as well; a restore of the tables' own past is.
func TestDigestCatchesUp(t *testing.T) {
	t.Parallel()
	dsn, l := local.TestDatabase(t), newLogAt(t, "c", "e", time.Now().AddDate(0, -3, 0))
	l.putFleet("default", "edge", "ann")
	for i := range 2500 { // more than a page
		l.report(connected("p1", uint64(i)))
		l.report(rejected("p1", uint64(i), "no"), disconnected("p1", uint64(i)))
		if i%100 == 0 {
			l.advance(24 * time.Hour)
		}
	}
	d := open(t, dsn)
	w := l.start(dsn, 1)
	d.digested(l)
	w.stop()
	days, statuses := `SELECT string_agg(f::text, ';' ORDER BY day, build) FROM fleet_days f`, `SELECT string_agg(p::text, ';' ORDER BY proxy) FROM proxy_status p`
	wantDays, wantStatus := d.text(days), d.text(statuses)
	d.want("2500", "SELECT count(*) FROM proxy_rejections")
	d.want("0", "SELECT count(*) FROM proxy_rejections_default")
	d.run("DELETE FROM archive_digests; DELETE FROM fleet_days; DELETE FROM proxy_status; DELETE FROM proxy_rejections")
	l.start(dsn, 2)
	d.digested(l)
	d.want(wantDays, days)
	d.want(wantStatus, statuses)
	d.want("2500", "SELECT count(*) FROM proxy_rejections")
}
