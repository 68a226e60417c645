package archive_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/archive"
	"github.com/org/envoy-control-plane/deploy/local"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// poison are ways in which Postgres refuses an event of the fleet "poison" and
// no other.
var poison = map[string]struct {
	sql, sqlstate string
	// placeless: what stands in its place is refused too.
	placeless bool
}{
	"content": {`ALTER TABLE fleet_revision_resources ADD CHECK (convert_from(body, 'UTF8') <> 'poison')`, "23514", false},
	"trigger": {`CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''not this one''; END';
		CREATE TRIGGER no BEFORE INSERT ON fleet_revisions FOR EACH ROW WHEN (NEW.fleet = 'poison') EXECUTE FUNCTION no()`, "P0001", false},
	"value": {`CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.changes := 1 / (NEW.changes - NEW.changes); RETURN NEW; END';
		CREATE TRIGGER no BEFORE INSERT ON fleet_revisions FOR EACH ROW WHEN (NEW.fleet = 'poison') EXECUTE FUNCTION no()`, "22012", false},
	"place": {`ALTER TABLE fleet_events ADD CHECK (kind <> 'revision_created' OR fleet <> 'poison')`, "23514", true},
}

// prepared is a database with the schema, changed by SQL.
func prepared(t *testing.T, sql string) (url string, d db) {
	t.Helper()
	url = local.TestDatabase(t)
	if err := archive.Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	d = open(t, url)
	d.run(sql)
	return url, d
}

func TestPoisonIsSetAside(t *testing.T) {
	t.Parallel()
	for name, p := range poison {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, d := prepared(t, p.sql)
			l := newLog(t, "c", "e")
			l.putFleet("default", "edge", "ann")
			l.putFleet("default", "poison", "ann")
			var refused []*fsmpb.Event
			for i := range 40 {
				l.change("edge", []*fsmpb.Resource{cluster("web", fmt.Sprint(i))})
				if i%15 == 7 {
					l.change("poison", []*fsmpb.Resource{cluster(fmt.Sprint("web", i), "poison")})
					for ev := range l.State().Events(l.State().Seq() - 1) {
						refused = append(refused, ev)
					}
				}
			}
			registry := prometheus.NewRegistry()
			w := l.start(url, 1, func(_ *archive.Config, d *archive.Deps, _ *archive.Archive) { d.Registry = registry })
			l.drained()
			wantAside(t, d, l, refused, p.sqlstate, p.placeless)
			gauge := fmt.Sprintf("# HELP ecp_archive_quarantined_events Events set aside because Postgres refuses them, while this node leads.\n"+
				"# TYPE ecp_archive_quarantined_events gauge\necp_archive_quarantined_events %d\n", len(refused))
			if err := testutil.GatherAndCompare(registry, strings.NewReader(gauge), "ecp_archive_quarantined_events"); err != nil {
				t.Error(err)
			}
			if _, err := w.Revision(t.Context(), "default", "poison", 2); fsm.CodeOf(err) != fsm.CodeRevisionNotFound {
				t.Errorf("a revision without its content: %v", err)
			}
			if r, err := w.Revision(t.Context(), "default", "edge", 40); !p.placeless && (err != nil || len(r.Info.Changed) != 1) {
				t.Errorf("a revision beside it: %v", err)
			}
			if !p.placeless {
				wantTold(t, w, len(refused), p.sqlstate)
			}
			d.run("DELETE FROM archive_quarantine")
			eventually(t, "nothing is set aside any more", func() bool { return w.Quarantined() == 0 })
		})
	}
}

// wantAside demands every event of a log once: in its place, or set aside with
// all that it had.
func wantAside(t *testing.T, d db, l *log, refused []*fsmpb.Event, sqlstate string, placeless bool) {
	t.Helper()
	last := l.State().Seq()
	d.want(fmt.Sprint(last), "SELECT seq FROM archive_cursor")
	places, gaps := "0", "0"
	if placeless {
		gaps = fmt.Sprint(len(refused))
	} else {
		places = fmt.Sprint(len(refused))
	}
	d.want(gaps, "SELECT count(*) FROM archive_gaps WHERE from_seq = to_seq")
	d.want(places, "SELECT count(*) FROM fleet_events WHERE data->'quarantined'->>'sqlstate' = $1", sqlstate)
	d.want(fmt.Sprintf("(%d,%d)", last, last), `SELECT (count(*), count(DISTINCT seq)) FROM (
		SELECT seq FROM fleet_events UNION ALL SELECT from_seq FROM archive_gaps) x`)
	for _, ev := range refused {
		d.want(sqlstate+" revision_created default", `SELECT concat_ws(' ', sqlstate, kind, tenant)
			FROM archive_quarantine WHERE seq = $1 AND reason <> ''`, int64(ev.Seq))
		var content []byte
		if err := d.QueryRow(t.Context(), "SELECT content FROM archive_quarantine WHERE seq = $1", int64(ev.Seq)).Scan(&content); err != nil {
			t.Fatal(err)
		}
		var got fsmpb.Event
		if err := proto.Unmarshal(content, &got); err != nil || !proto.Equal(&got, ev) {
			t.Errorf("event %d was %v and is %v, %v", ev.Seq, ev, &got, err)
		}
	}
	d.want(fmt.Sprint(len(refused)), "SELECT count(*) FROM archive_quarantine")
	// Nothing else has suffered.
	d.want("0", "SELECT count(*) FROM fleet_events WHERE data ? 'text'")
	d.want("0", `SELECT count(*) FROM fleet_events e WHERE kind = 'revision_created' AND NOT data ? 'quarantined'
		AND NOT EXISTS (SELECT FROM fleet_revision_resources r WHERE r.seq = e.seq)`)
}

// wantTold demands that history and report tell of the revisions of the fleet
// "poison", and what has become of them.
func wantTold(t *testing.T, w *writer, n int, sqlstate string) {
	t.Helper()
	events, _, err := w.History(t.Context(), archive.HistoryQuery{Tenant: "default", Fleet: "poison", Kind: "revision_created"})
	if err != nil || len(events) != n {
		t.Fatalf("history: %d events, %v", len(events), err)
	}
	report, err := w.Changes(t.Context(), archive.ReportQuery{Tenant: "default", Fleet: "poison", Kind: "revision_created"})
	if err != nil || len(report.Items) != n {
		t.Fatalf("report: %d changes, %v", len(report.Items), err)
	}
	for i := range n {
		for _, data := range []json.RawMessage{events[i].Data, report.Items[i].Data} {
			var said struct {
				Quarantined struct{ SQLState, Reason string }
			}
			if err := json.Unmarshal(data, &said); err != nil || said.Quarantined.SQLState != sqlstate || said.Quarantined.Reason == "" {
				t.Errorf("told: %s, %v", data, err)
			}
		}
	}
}

// A writer that dies in the midst of setting an event aside does so once.
func TestCrashWhilePoisonIsSetAside(t *testing.T) {
	t.Parallel()
	for _, step := range archive.Steps {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			url, d := prepared(t, poison["value"].sql)
			l := newLog(t, "c", "e")
			l.putFleet("default", "poison", "ann")
			var refused []*fsmpb.Event
			for term := uint64(1); term <= 6; term++ {
				l.change("poison", []*fsmpb.Resource{cluster("web", fmt.Sprint(term))})
				for ev := range l.State().Events(l.State().Seq() - 1) {
					refused = append(refused, ev)
				}
				l.putFleet("default", "edge", "ann")
				died := make(chan struct{})
				var once sync.Once
				met := uint64(0) // in every other life a step later
				w := l.start(url, term, at(func(s string) error {
					if s != step {
						return nil
					}
					if met++; met <= term%2 && (step == "cursor" || step == "rows" || step == "commit") {
						return nil
					}
					once.Do(func() { close(died) })
					return errDead
				}))
				<-died
				w.stop()
			}
			l.start(url, 7)
			l.drained()
			wantAside(t, d, l, refused, poison["value"].sqlstate, false)
		})
	}
}

// What is wrong with the database, or with all of a table, sets nothing aside.
func TestFaultsOfTheDatabaseSetNothingAside(t *testing.T) {
	t.Parallel()
	for _, code := range []string{
		"53100", "53200", "53400", "57014", "40001", "25006", "42501", "42703", "55P03", "58030", "XX000", "XX001",
		// Of every event, which is the table's matter.
		"23502", "23514", "22003", "54000", "P0001",
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			url, d := prepared(t, `CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS
				'BEGIN RAISE EXCEPTION USING ERRCODE = TG_ARGV[0], MESSAGE = TG_ARGV[0]; END'`)
			l := newLog(t, "c", "e")
			w := l.start(url, 1)
			l.drained()
			d.run("CREATE TRIGGER no BEFORE INSERT ON fleet_events FOR EACH ROW EXECUTE FUNCTION no('" + code + "')")
			for range 5 {
				l.putFleet("default", "edge", "ann")
			}
			eventually(t, "down", func() bool {
				s := w.Status()
				return s.State == archive.StateDown && strings.Contains(s.Error, code)
			})
			d.run("DROP TRIGGER no ON fleet_events")
			l.drained()
			d.wantOnce("e", 0, l.State().Seq())
			d.want("0", "SELECT count(*) FROM archive_quarantine")
			d.want("0", "SELECT count(*) FROM fleet_events WHERE data ? 'text'")
		})
	}
}

// Rows above the cursor are not the events' fault either: somebody has set it
// back without them. Nothing is written twice.
func TestRowsAboveTheCursor(t *testing.T) {
	t.Parallel()
	url, l := local.TestDatabase(t), newLog(t, "c", "e")
	l.putFleet("default", "edge", "ann")
	w := l.start(url, 1)
	for i := range 10 {
		l.change("edge", []*fsmpb.Resource{cluster("web", fmt.Sprint(i))})
	}
	l.drained()
	d := open(t, url)
	d.run("UPDATE archive_cursor SET seq = seq - 4")
	eventually(t, "down", func() bool { return strings.Contains(w.Status().Error, "23505") })
	d.run("UPDATE archive_cursor SET seq = seq + 4")
	l.putFleet("default", "edge", "ann")
	l.drained()
	d.wantOnce("e", 0, l.State().Seq())
	d.want("0", "SELECT count(*) FROM archive_quarantine")
}

// A proxy with a name that no index holds: its event is set aside, and where
// all proxies are copied it is left out.
func TestPoisonedProxy(t *testing.T) {
	t.Parallel()
	url, l := local.TestDatabase(t), newLog(t, "c", "e")
	l.putFleet("default", "edge", "ann")
	w := l.start(url, 1)
	name := make([]byte, 20_000)
	for i := range name {
		name[i] = byte('!' + rand.IntN(90))
	}
	l.report(connected("p1", 1), connected(string(name), 2), connected("p3", 3))
	l.drained()
	d := open(t, url)
	proxies := "SELECT string_agg(id, ' ' ORDER BY id) FROM envoy_proxies WHERE epoch = $1"
	d.want("p1 p3", proxies, "e")
	d.want("54000 proxy_connected", "SELECT concat_ws(' ', sqlstate, kind) FROM archive_quarantine")
	eventually(t, "the digest", func() bool {
		return d.text("SELECT seq FROM archive_digests") == fmt.Sprint(l.State().Seq())
	})
	d.want("p1 p3", "SELECT string_agg(proxy, ' ' ORDER BY proxy) FROM proxy_status")
	w.stop()
	child := l.branch(&fsmpb.Identity{ClusterId: "c", Epoch: "e2", ParentEpoch: "e", ParentSeq: l.State().Seq()})
	child.start(url, 2)
	child.putFleet("default", "edge", "ann")
	child.drained()
	d.want("p1 p3", proxies, "e2")
}
