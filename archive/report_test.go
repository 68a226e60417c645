package archive_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
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

// model is what the digest of proxies must come to, told the slow way: every
// proxy's status over all of time.
type model struct {
	proxies map[string]*modelled
	spent   map[string]map[bool]time.Duration // by day and build, or month and fleet
}

type modelled struct {
	fleet, build string
	connected    bool
	since        time.Time
}

func (m *model) pass(p *modelled, until time.Time) {
	for at := p.since; at.Before(until); {
		end := at.UTC().Truncate(24*time.Hour).AddDate(0, 0, 1)
		if until.Before(end) {
			end = until
		}
		for _, key := range []string{at.UTC().Format("2006-01-02 ") + p.build, at.UTC().Format("2006-01 ") + p.fleet} {
			if m.spent[key] == nil {
				m.spent[key] = map[bool]time.Duration{}
			}
			m.spent[key][p.connected] += end.Sub(at)
		}
		at = end
	}
	p.since = until
}

// TestPresenceIsExact lets proxies come and go at random over months, with
// writers that stop and start, and compares with the model.
func TestPresenceIsExact(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	began := time.Now().AddDate(0, 0, -75).Truncate(time.Microsecond)
	dsn, l := local.TestDatabase(t), newLogAt(t, "c", "e", began)
	m := &model{proxies: map[string]*modelled{}, spent: map[string]map[bool]time.Duration{}}
	w := l.start(dsn, 1)
	d := open(t, dsn)
	for step := range 300 {
		l.advance(time.Duration(r.Int64N(int64(10 * time.Hour))).Truncate(time.Microsecond))
		m.step(l, r)
		if step%50 == 49 {
			d.digested(l)
			w.stop()
			w = l.start(dsn, uint64(step))
		}
	}
	d.digested(l)
	out, err := w.Proxies(t.Context(), archive.ReportQuery{Tenant: "default", Since: began, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.proxies {
		m.pass(p, out.AsOf)
	}
	presences := everything(t, archive.ReportQuery{Tenant: "default", Since: began, Limit: 7}, w.Proxies)
	n := m.compare(t, presences, out.AsOf, func(p archive.Presence) string { return p.From.Format("2006-01-02 ") + p.Name })
	months := everything(t, archive.ReportQuery{Tenant: "default", Since: began, Limit: 2}, w.Availability)
	n += m.compare(t, months, out.AsOf, func(p archive.Presence) string { return p.From.Format("2006-01 ") + p.Name })
	if n != len(m.spent) {
		t.Fatalf("%d of %d sums are reported", n, len(m.spent))
	}
}

func (m *model) step(l *log, r *rand.Rand) {
	id := fmt.Sprint("p", r.IntN(8))
	p := m.proxies[id]
	at := l.stamp.Add(time.Millisecond).Truncate(time.Microsecond)
	row, _ := l.State().Proxy("default", id)
	switch {
	case len(row.GetStreams()) < 2 && r.IntN(2) == 0:
		fleet, build := fmt.Sprint("f", r.IntN(2)), fmt.Sprint("b", r.IntN(3))
		c := connected(id, uint64(r.Int64()))
		c.GetConnected().Fleet, c.GetConnected().Build = fleet, build
		l.report(c)
		if p == nil {
			p = &modelled{since: at}
			m.proxies[id] = p
		}
		m.pass(p, at)
		p.fleet, p.build, p.connected = fleet, build, true
	case len(row.GetStreams()) > 0:
		l.report(disconnected(id, row.Streams[0].Number))
		m.pass(p, at)
		p.connected = len(row.Streams) > 1
	case p != nil:
		l.do(&fsmpb.Command{Op: &fsmpb.Command_DeleteProxy{DeleteProxy: &fsmpb.DeleteProxy{Tenant: "default", Id: id}}})
		m.pass(p, at)
		delete(m.proxies, id)
	}
}

func (m *model) compare(t *testing.T, got []archive.Presence, asOf time.Time, key func(archive.Presence) string) int {
	t.Helper()
	for _, p := range got {
		want := m.spent[key(p)]
		// The last period grows between two questions.
		length, slack := p.To.Sub(p.From), time.Millisecond
		if p.To.After(asOf) {
			slack += 10 * p.To.Sub(asOf)
		}
		for connected, average := range map[bool]float64{true: p.Connected, false: p.Disconnected} {
			spent := time.Duration(average * float64(length))
			if math.Abs(float64(spent-want[connected])) > float64(slack) {
				t.Errorf("%s: connected %v for %v, want %v", key(p), connected, spent, want[connected])
			}
		}
	}
	return len(got)
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

func TestPastRevisionsComeBack(t *testing.T) {
	t.Parallel()
	dsn, l := local.TestDatabase(t), newLog(t, "c", "e")
	l.putFleet("default", "edge", "ann")
	want := map[uint64]*fsm.Revision{}
	keep := func() {
		r, _ := l.State().Revision("default", "edge", 0)
		want[r.Info.Revision] = r
	}
	build := func() {
		for i := range 30 {
			a, b := cluster(fmt.Sprint("c", i%7), fmt.Sprint(i)), cluster("always", fmt.Sprint(i))
			b.Aliases, b.TtlMs = []string{"x", "y"}, int64(i)
			b.Hash = fsm.ResourceHash(b.Body, b.Aliases, b.TtlMs)
			l.change("edge", []*fsmpb.Resource{a, b}, &fsmpb.ResourceKey{TypeUrl: fsm.TypeCluster, Name: fmt.Sprint("c", (i+3)%7)})
			keep()
		}
		l.do(&fsmpb.Command{By: "ann", Op: &fsmpb.Command_RollbackFleet{RollbackFleet: &fsmpb.RollbackFleet{Tenant: "default", Fleet: "edge", To: 3}}})
		keep()
	}
	build()
	w := l.start(dsn, 1)
	l.drained()
	check := func(w *writer) {
		t.Helper()
		for n, r := range want {
			got, err := w.Revision(t.Context(), "default", "edge", n)
			if err != nil {
				t.Fatalf("revision %d: %v", n, err)
			}
			if diff := fsm.Diff(r, got); len(diff) > 0 || got.Len(fsm.TypeCluster) != r.Len(fsm.TypeCluster) {
				t.Fatalf("revision %d differs: %v", n, diff)
			}
			if got.Info.Index != r.Info.Index || got.Info.RollbackOf != r.Info.RollbackOf || len(got.Info.Changed) != len(r.Info.Changed) || got.Info.Message != r.Info.Message {
				t.Fatalf("revision %d: %v, want %v", n, got.Info, r.Info)
			}
			always, _ := got.Resource(fsm.TypeCluster, "always")
			if !slices.Equal(always.Aliases, []string{"x", "y"}) {
				t.Fatalf("revision %d: %v", n, always)
			}
		}
	}
	check(w)
	for name, n := range map[string]uint64{"none": 0, "to come": 32} {
		if _, err := w.Revision(t.Context(), "default", "edge", n); fsm.CodeOf(err) != fsm.CodeRevisionNotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A fleet of the same name begins anew.
	l.do(&fsmpb.Command{Op: &fsmpb.Command_DeleteFleet{DeleteFleet: &fsmpb.DeleteFleet{Tenant: "default", Name: "edge"}}})
	l.drained()
	check(w)
	l.putFleet("default", "edge", "ann")
	l.change("edge", []*fsmpb.Resource{cluster("new", "1")})
	l.drained()
	if r, err := w.Revision(t.Context(), "default", "edge", 1); err != nil || r.Len(fsm.TypeCluster) != 1 {
		t.Fatalf("%v, %v", r, err)
	}
	// What is missing is not made up for.
	d := open(t, dsn)
	d.run("INSERT INTO archive_gaps (cluster, epoch, from_seq, to_seq, node) SELECT 'c', 'e', seq, seq, '' FROM fleet_revisions WHERE revision = 10")
	if _, err := w.Revision(t.Context(), "default", "edge", 20); fsm.CodeOf(err) != fsm.CodeRevisionNotFound {
		t.Fatalf("behind a gap: %v", err)
	}
	if _, err := w.Revision(t.Context(), "default", "edge", 9); err != nil {
		t.Fatal(err)
	}
}

// After a restore, a revision is made of those that led to the backup and not
// of those between it and the restore.
func TestPastRevisionsBehindARestore(t *testing.T) {
	t.Parallel()
	dsn, l := local.TestDatabase(t), raised(t, "c", "e", time.Now())
	w := l.start(dsn, 1)
	l.putFleet("default", "edge", "ann")
	for i := range 3 {
		l.change("edge", []*fsmpb.Resource{cluster(fmt.Sprint("kept", i), "1")})
	}
	backup := l.State()
	for i := range 3 {
		l.change("edge", []*fsmpb.Resource{cluster(fmt.Sprint("lost", i), "1")})
	}
	l.drained()
	w.stop()
	l.restore(backup, "e2")
	l.change("edge", []*fsmpb.Resource{cluster("new", "1")})
	l.change("edge", []*fsmpb.Resource{cluster("new", "2")})
	w = l.start(dsn, 2)
	l.drained()
	for n, want := range map[uint64]int{2: 2, 3: 3, 4: 4, 5: 4} {
		want2, _ := l.State().Revision("default", "edge", n)
		got, err := w.Revision(t.Context(), "default", "edge", n)
		if err != nil || got.Len(fsm.TypeCluster) != want || len(fsm.Diff(want2, got)) != 0 {
			t.Errorf("revision %d: %v, %v", n, fsm.Diff(want2, got), err)
		}
	}
	if _, err := w.Revision(t.Context(), "default", "edge", 6); fsm.CodeOf(err) != fsm.CodeRevisionNotFound {
		t.Errorf("a revision that was restored away: %v", err)
	}
}

// restore has the state restored from a backup.
func (l *log) restore(backup *fsm.State, epoch string) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stamp = l.stamp.Add(time.Millisecond)
	sum := make([]byte, 32)
	st, results, _ := l.st.ApplyWith(l.st.Index()+1, &fsmpb.Entry{Stamp: l.stamp.UnixNano(), Commands: []*fsmpb.Command{{
		Op: &fsmpb.Command_RestoreState{RestoreState: &fsmpb.RestoreState{Sha256: sum, Epoch: epoch}},
	}}}, func([]byte) *fsm.State { return backup })
	if err := fsm.ResultError(results[0]); err != nil {
		l.t.Fatal(err)
	}
	l.st = st
}
