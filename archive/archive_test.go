package archive_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/org/envoy-control-plane/archive"
	"github.com/org/envoy-control-plane/deploy/local"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func TestEachEventOnceOverRestarts(t *testing.T) {
	t.Parallel()
	url, l := local.TestDatabase(t), newLog(t, "c", "e")
	for term := range uint64(4) {
		w := l.start(url, term+1, with(func(c *archive.Config) { c.BatchEvents = 3 }))
		for range 10 {
			l.putFleet("default", "edge", "ann")
			l.change("edge", []*fsmpb.Resource{cluster("web", fmt.Sprint(l.State().Index()))})
		}
		if term%2 == 0 {
			l.drained()
		}
		w.stop()
	}
	l.start(url, 9)
	l.drained()
	d := open(t, url)
	d.wantOnce("e", 0, l.State().Seq())
	d.want("0", "SELECT count(*) FROM archive_gaps")
	d.want("9", "SELECT term FROM archive_cursor")
}

func TestRowsSayWhatHappened(t *testing.T) {
	t.Parallel()
	url, l := local.TestDatabase(t), newLog(t, "c", "e")
	l.putFleet("default", "edge", "ann")
	l.change("edge", []*fsmpb.Resource{cluster("a", "1"), cluster("b", "not json")})
	l.change("edge", []*fsmpb.Resource{cluster("b", "2")}, &fsmpb.ResourceKey{TypeUrl: fsm.TypeCluster, Name: "a"})
	l.do(&fsmpb.Command{By: "ops", Op: &fsmpb.Command_PutEndpoints{PutEndpoints: &fsmpb.PutEndpoints{
		Tenant: "default", Service: "web", Body: []byte("7"), Hash: fsm.ResourceHash([]byte("7"), nil, 0),
	}}})
	l.do(&fsmpb.Command{By: "ops", Op: &fsmpb.Command_DeleteEndpoints{DeleteEndpoints: &fsmpb.DeleteEndpoints{
		Tenant: "default", Service: "web",
	}}})
	l.start(url, 1, func(_ *archive.Config, d *archive.Deps, _ *archive.Archive) {
		d.JSON = func(_ string, body []byte) (json.RawMessage, error) {
			if !json.Valid(body) {
				return nil, errors.New("cannot")
			}
			return body, nil
		}
	})
	l.drained()
	d := open(t, url)
	d.wantOnce("e", 0, l.State().Seq())
	d.want("revision_created default 3 edge ann 2",
		`SELECT concat_ws(' ', kind, tenant, tenant_seq, fleet, by, data->>'revision') FROM fleet_events ORDER BY seq OFFSET 3 LIMIT 1`)
	st := l.State()
	rev, _ := st.Revision("default", "edge", 0)
	d.want(time.Unix(0, rev.Info.At).UTC().Format("2006-01-02T15:04:05.000000"),
		`SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') FROM fleet_revisions WHERE revision = 2`)
	d.want("why 2 ann", `SELECT concat_ws(' ', message, changes, by) FROM fleet_revisions WHERE revision = 2`)
	b, _ := rev.Resource(fsm.TypeCluster, "b")
	d.want("added a 1 1; added b - not json; removed a - -; updated b 2 2", `SELECT string_agg(
		concat_ws(' ', op, name, coalesce(content::text, '-'), coalesce(convert_from(body, 'UTF8'), '-')), '; ' ORDER BY seq, op, name)
		FROM fleet_revision_resources`)
	d.want(b.Version, `SELECT version FROM fleet_revision_resources WHERE op = 'updated'`)
	d.want("web 7 t; web - f", `SELECT string_agg(
		concat_ws(' ', service, coalesce(content::text, '-'), version <> ''), '; ' ORDER BY seq) FROM endpoint_changes`)
}

func connected(id string, stream uint64) *fsmpb.ProxyReport {
	return &fsmpb.ProxyReport{Tenant: "default", Id: id, Stream: stream, Report: &fsmpb.ProxyReport_Connected_{
		Connected: &fsmpb.ProxyReport_Connected{
			Fleet: "edge", Protocol: "delta", Build: "1.40", Locality: &fsmpb.Locality{Zone: "eu-1"},
			Labels: map[string]string{"tier": "gold"},
		},
	}}
}

func disconnected(id string, stream uint64) *fsmpb.ProxyReport {
	return &fsmpb.ProxyReport{Tenant: "default", Id: id, Stream: stream, Report: &fsmpb.ProxyReport_Disconnected_{
		Disconnected: &fsmpb.ProxyReport_Disconnected{},
	}}
}

func rejected(id string, stream uint64, detail string) *fsmpb.ProxyReport {
	return &fsmpb.ProxyReport{Tenant: "default", Id: id, Stream: stream, Report: &fsmpb.ProxyReport_Rejected_{
		Rejected: &fsmpb.ProxyReport_Rejected{TypeUrl: fsm.TypeListener, Version: "1-a", Detail: detail, Revision: 1},
	}}
}

func TestProxyRowsFollow(t *testing.T) {
	t.Parallel()
	url, l := local.TestDatabase(t), newLog(t, "c", "e")
	l.putFleet("default", "edge", "ann")
	l.report(connected("p1", 1), connected("p2", 2))
	l.start(url, 1)
	l.drained()
	d := open(t, url)
	proxies := `SELECT string_agg(concat_ws(' ', id, status, streams, fleet, zone, build, labels->>'tier',
		rejections->0->>'type', rejections->0->>'detail'), '; ' ORDER BY id) FROM envoy_proxies`
	d.want("p1 connected 1 edge eu-1 1.40 gold; p2 connected 1 edge eu-1 1.40 gold", proxies)
	// What Postgres' text cannot hold must not hold up the archive.
	l.report(rejected("p1", 1, "bad\x00 filter"), disconnected("p2", 2))
	l.drained()
	d.want("p1 connected 1 edge eu-1 1.40 gold listener bad\uFFFD filter; p2 disconnected 0 edge eu-1 1.40 gold", proxies)
	l.do(&fsmpb.Command{By: "ann", Op: &fsmpb.Command_DeleteProxy{DeleteProxy: &fsmpb.DeleteProxy{Tenant: "default", Id: "p2"}}})
	l.drained()
	d.want("p1 connected 1 edge eu-1 1.40 gold listener bad\uFFFD filter", proxies)
	d.wantOnce("e", 0, l.State().Seq())
}

// Whatever JSON Postgres refuses, the event is stored and the next ones are.
func TestOneEventCannotHoldUpTheOthers(t *testing.T) {
	t.Parallel()
	url, l := local.TestDatabase(t), newLog(t, "c", "e")
	l.putFleet("default", "edge", "ann")
	l.start(url, 1, func(_ *archive.Config, d *archive.Deps, _ *archive.Archive) {
		d.JSON = func(string, []byte) (json.RawMessage, error) { return json.RawMessage(`{"a": 1e999999}`), nil }
	})
	l.change("edge", []*fsmpb.Resource{cluster("a", "x")})
	l.drained()
	l.putFleet("default", "edge", "ann")
	l.drained()
	d := open(t, url)
	d.wantOnce("e", 0, l.State().Seq())
	d.want("x -", `SELECT concat_ws(' ', convert_from(body, 'UTF8'), coalesce(content::text, '-')) FROM fleet_revision_resources`)
	d.want("1", `SELECT (data->>'text')::jsonb->>'revision' FROM fleet_events WHERE kind = 'revision_created'`)
}

func TestSettingsAreConfiguredOnce(t *testing.T) {
	t.Parallel()
	url, l := local.TestDatabase(t), newLog(t, "c", "e")
	mine := with(func(c *archive.Config) {
		c.Overflow, c.ReplayWindow, c.MaxOutboxBytes = fsmpb.ArchiveSettings_GAP, time.Minute, 1<<20
	})
	w := l.start(url, 1, mine)
	l.drained()
	got := l.State().Archive()
	if !got.Enabled || got.Overflow != fsmpb.ArchiveSettings_GAP || got.ReplayWindowMs != 60_000 || got.MaxOutboxBytes != 1<<20 {
		t.Fatalf("settings %v", got)
	}
	w.stop()
	seq := l.State().Seq()
	l.start(url, 2, mine)
	time.Sleep(200 * time.Millisecond)
	l.putFleet("default", "edge", "ann")
	l.drained()
	if l.State().Seq() != seq+1 {
		t.Fatalf("%d events, want one", l.State().Seq()-seq)
	}
}

// What is committed before the database was ever reached waits for it too, not
// only the newest of it.
func TestEventsWaitForADatabaseThatWasNeverThere(t *testing.T) {
	t.Parallel()
	l := newLog(t, "c", "e")
	w := l.start("postgres://127.0.0.1:1/nobody", 1)
	eventually(t, "down", func() bool { return w.Status().State == archive.StateDown })
	l.putFleet("default", "edge", "ann")
	if st := l.State(); !st.Archive().GetEnabled() || st.OutboxBytes() == 0 {
		t.Fatalf("%d bytes wait, settings %v", st.OutboxBytes(), st.Archive())
	}
	w.stop()
	url := local.TestDatabase(t)
	l.start(url, 2)
	l.drained()
	open(t, url).wantOnce("e", 0, l.State().Seq())
}

func TestFollowersDoNotWrite(t *testing.T) {
	t.Parallel()
	url, l := local.TestDatabase(t), newLog(t, "c", "e")
	w := l.start(url, 1, func(_ *archive.Config, d *archive.Deps, _ *archive.Archive) {
		if n, ok := d.Cluster.(*node); ok {
			n.lead(false, 1)
		}
	}, at(func(string) error {
		t.Error("a follower writes")
		return errors.New("no")
	}))
	l.putFleet("default", "edge", "ann")
	time.Sleep(3 * 250 * time.Millisecond)
	if st := l.State(); st.Archive().GetEnabled() || w.Status().State == archive.StateDown {
		t.Fatalf("status %+v", w.Status())
	}
	open(t, url).want("", "SELECT to_regclass('fleet_events')")
}

func TestStatus(t *testing.T) {
	t.Parallel()
	l := newLog(t, "c", "e")
	var down atomic.Bool
	down.Store(true)
	w := l.start(local.TestDatabase(t), 1, with(func(c *archive.Config) { c.LagAfter = time.Millisecond }), at(func(step string) error {
		if step == "commit" && down.Load() {
			return errors.New("no disk")
		}
		return nil
	}))
	eventually(t, "down", func() bool { return w.Status().State == archive.StateDown })
	if s := w.Status(); s.Error == "" || s.LastSeq == 0 || s.ArchivedSeq != 0 || s.OutboxBytes == 0 || s.Lag <= 0 {
		t.Fatalf("down: %+v", s)
	}
	w.lead(false, 1)
	eventually(t, "a follower lags", func() bool { return w.Status().State == archive.StateLagging })
	w.lead(true, 2)
	down.Store(false)
	l.drained()
	eventually(t, "ok", func() bool { return w.Status().State == archive.StateOK })
	if s := w.Status(); s.Error != "" || s.LastSeq != s.ArchivedSeq || s.OutboxBytes != 0 || s.Lag != 0 {
		t.Fatalf("ok: %+v", s)
	}
}

func TestNewNamesEveryMistake(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]archive.Config{
		"no URL":        {},
		"bad URL":       {DatabaseURL: "postgres://h:x/"},
		"bad read URL":  {DatabaseURL: "postgres://h/", ReadURL: "postgres://h:x/"},
		"negative size": {DatabaseURL: "postgres://h/", BatchEvents: -1},
	} {
		if _, err := archive.New(c, archive.Deps{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	url := local.TestDatabase(t)
	for range 2 {
		if err := archive.Migrate(t.Context(), url); err != nil {
			t.Fatal(err)
		}
	}
	open(t, url).want("0", "SELECT count(*) FROM fleet_events")
}

func TestMain(m *testing.M) {
	// The Postgres that the tests share ends with the process.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/org/envoy-control-plane/deploy/local.(*Process).wait"))
}
