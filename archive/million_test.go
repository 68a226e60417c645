package archive_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/archive"
	"github.com/org/envoy-control-plane/deploy/local"
)

var updatePlans = flag.Bool("update-plans", false, "write the plans of reports to testdata/plans")

// million fills the tables with a million events from January through June
// 2026, and with what their digest is: 10,000 proxies in 50 fleets of two
// tenants, three builds. Nothing is random, so that the statistics are not.
const million = `
SET synchronous_commit = off;
INSERT INTO archive_epochs (cluster, epoch, first_seq) VALUES ('c', 'e', 1);
INSERT INTO archive_cursor (cluster, epoch, seq, term, node) VALUES ('c', 'e', 1000000, 1, 'n');
INSERT INTO archive_digests (cluster, epoch, seq, at, first_at) VALUES ('c', 'e', 1000000, '2026-06-30 23:59+00', '2026-01-01 00:00+00');
CREATE TEMP TABLE made AS
SELECT i AS seq, '2026-01-01 00:00+00'::timestamptz + i * interval '15.638 seconds' AS at,
    CASE WHEN i / 100 % 10 = 9 THEN 'acme' ELSE 'default' END AS tenant,
    'fleet-' || (i / 100 * 7919 + i % 3) % 50 AS fleet, 'proxy-' || i::bigint * 104729 % 10000 AS proxy,
    CASE WHEN i % 100 < 3 THEN 'revision_created' WHEN i % 100 = 3 THEN 'endpoints_put' WHEN i % 100 < 7 THEN 'proxy_rejected'
        WHEN i % 100 < 53 THEN 'proxy_connected' WHEN i % 100 < 98 THEN 'proxy_disconnected' ELSE 'convergence_recorded' END AS kind
FROM generate_series(1, 1000000) AS i;
INSERT INTO fleet_events (cluster, epoch, seq, tenant, tenant_seq, log_index, at, fleet, kind, by, data)
SELECT 'c', 'e', seq, tenant, seq, seq, at, CASE kind WHEN 'endpoints_put' THEN '' ELSE fleet END, kind,
    CASE WHEN kind IN ('revision_created', 'endpoints_put') THEN 'user-' || seq % 7 ELSE 'xds' END,
    CASE kind
    WHEN 'revision_created' THEN jsonb_build_object('revision', seq, 'message', 'roll out ' || seq, 'changed',
        jsonb_build_array(jsonb_build_object('op', 'updated', 'type', 'cluster', 'name', 'c' || seq % 100)))
    WHEN 'endpoints_put' THEN jsonb_build_object('service', 'service-' || seq % 200)
    WHEN 'proxy_rejected' THEN jsonb_build_object('proxy', proxy, 'rejection', jsonb_build_object('type', 'listener', 'detail',
        'Error adding/updating listener(s) l' || seq / 100 % 40))
    ELSE jsonb_build_object('proxy', proxy, 'build', 'envoy/1.4' || seq % 3 || '.0') END
FROM made;
INSERT INTO fleet_revisions (cluster, epoch, seq, log_index, at, tenant, fleet, revision, by, message, rollback_of, changes)
SELECT 'c', 'e', seq, seq, at, tenant, fleet, row_number() OVER (PARTITION BY tenant, fleet ORDER BY seq),
    'user-' || seq % 7, 'roll out ' || seq, 0, 1 FROM made WHERE kind = 'revision_created';
INSERT INTO fleet_revision_resources (cluster, epoch, seq, op, type, name, version, content, body, aliases, ttl_ms)
SELECT 'c', 'e', seq, CASE WHEN revision < 100 THEN 'added' ELSE 'updated' END,
    'type.googleapis.com/envoy.config.cluster.v3.Cluster', 'c' || revision % 100, log_index || '-0', NULL, convert_to(repeat('x', 300), 'UTF8'), '{}', 0
FROM fleet_revisions;
INSERT INTO revision_convergence (cluster, epoch, tenant, fleet, at, revision, node, expected, synced, rejected, departed,
    within_ms, streams, slowest, waiting)
SELECT 'c', 'e', tenant, fleet, at, revision, 'node-' || n, 70, 68, 1, 1, '{12,19,25,37,51,103,207}', '{20,20,10,10,5,2,1}',
    '[{"proxy": "a", "after_ms": 200}, {"proxy": "b", "after_ms": 100}]', '{}'
FROM fleet_revisions, generate_series(1, 3) AS n;
INSERT INTO proxy_rejections (cluster, epoch, seq, at, tenant, fleet, proxy, revision, type, detail_id, detail)
SELECT 'c', 'e', seq, at, tenant, fleet, proxy, seq, 'listener', seq / 100 % 40, 'Error adding/updating listener(s) l' || seq / 100 % 40
FROM made WHERE kind = 'proxy_rejected';
INSERT INTO fleet_days (cluster, epoch, tenant, day, fleet, build, connected_us, disconnected_us)
SELECT 'c', 'e', tenant, day, 'fleet-' || f, 'envoy/1.4' || b || '.0', 60 * 86400000000::bigint, 6 * 86400000000::bigint
FROM generate_series('2026-01-01'::date, '2026-06-29', interval '1 day') AS day, generate_series(0, 49) AS f, generate_series(0, 2) AS b,
    unnest('{default,acme}'::text[]) AS tenant;
INSERT INTO proxy_status (cluster, epoch, tenant, proxy, fleet, build, connected, since)
SELECT 'c', 'e', CASE WHEN i % 10 = 9 THEN 'acme' ELSE 'default' END, 'proxy-' || i, 'fleet-' || i % 50, 'envoy/1.4' || i % 3 || '.0',
    i % 12 > 0, '2026-06-30 00:00+00'::timestamptz + i * interval '7 seconds' FROM generate_series(0, 9999) AS i;
INSERT INTO proxy_metrics (cluster, at, tenant, fleet, proxy, node, name, labels, kind, count, sum, min, max, last)
SELECT 'c', at, CASE WHEN p % 10 = 9 THEN 'acme' ELSE 'default' END, 'fleet-' || p % 50, 'proxy-' || p, 'n', 'metric-' || m, '{"class": "2"}',
    'gauge', 6, 6 * p, p, p, p
FROM generate_series('2026-05-30 00:00+00'::timestamptz, '2026-06-01 23:45+00', interval '15 min') AS at, generate_series(0, 199) AS p, generate_series(1, 5) AS m;
DROP TABLE made;
ANALYZE fleet_events;
SET default_statistics_target = 1000;
ANALYZE fleet_revisions, fleet_revision_resources, revision_convergence, proxy_rejections, fleet_days, proxy_status, proxy_metrics`

// TestReportsOnAMillionRows asks each report on six months of events: that it
// uses indexes and opens no partition that it need not is in its plan, which is
// kept; how long it takes is printed.
func TestReportsOnAMillionRows(t *testing.T) {
	t.Parallel()
	url := local.TestDatabase(t)
	if err := archive.Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	d := open(t, url)
	for _, table := range []string{"fleet_events", "proxy_rejections", "revision_convergence"} {
		for m := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC); m.Year() < 2027; m = m.AddDate(0, 1, 0) {
			d.run("CREATE TABLE " + table + m.Format("_2006_01") + " PARTITION OF " + table + " FOR VALUES FROM ('" +
				m.Format(time.DateOnly) + " 00:00+00') TO ('" + m.AddDate(0, 1, 0).Format(time.DateOnly) + " 00:00+00')")
		}
	}
	for day := time.Date(2026, 5, 28, 0, 0, 0, 0, time.UTC); day.Month() < 7; day = day.AddDate(0, 0, 1) {
		d.run("SELECT proxy_metrics_make_day($1)", day)
	}
	began := time.Now()
	d.run(million)
	t.Logf("loaded in %v", time.Since(began).Round(time.Millisecond))
	l := newLog(t, "c", "e")
	a := l.start(url, 1, follower)
	a.reads()
	month := archive.ReportQuery{
		Tenant: "default", Since: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC), Until: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC),
	}
	year := month
	year.Since, year.Until = time.Date(2025, 7, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	days := archive.ReportQuery{
		Tenant: "default", Name: "metric-3", Interval: "hour",
		Since: time.Date(2026, 5, 31, 0, 0, 0, 0, time.UTC), Until: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC),
	}
	of := func(q archive.ReportQuery, fleet string) archive.ReportQuery {
		q.Fleet = fleet
		return q
	}
	other := func(q archive.ReportQuery) archive.ReportQuery {
		q.Tenant = "acme" // a tenth of all; most of a month is better read as a whole
		return q
	}
	for _, c := range []struct {
		name, report string
		q            archive.ReportQuery
	}{
		{"changes_month", "changes", month},
		{"changes_fleet_year", "changes", of(year, "fleet-7")},
		{"convergence_month", "convergence", month},
		{"convergence_fleet_year", "convergence", of(year, "fleet-7")},
		{"rejections_month", "rejections", other(month)},
		{"rejections_year", "rejections", other(year)},
		{"rejections_most", "rejections", month},
		{"proxies_month", "proxies", month},
		{"proxies_year", "proxies", year},
		{"proxies_fleet_year", "proxies", of(year, "fleet-7")},
		{"availability_year", "availability", year},
		{"metrics_day", "metrics", of(days, "fleet-7")},
		{"revision", "revision", of(month, "fleet-7")},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantPlan(t, a, c.name, c.report, c.q)
			took, rows := timed(t, a, c.report, c.q)
			t.Logf("%d rows in %v", rows, took.Round(100*time.Microsecond))
			if rows == 0 || took > 10*time.Second {
				t.Errorf("%d rows in %v", rows, took)
			}
		})
	}
}

func follower(_ *archive.Config, d *archive.Deps, _ *archive.Archive) {
	if n, ok := d.Cluster.(*node); ok {
		n.lead(false, 1)
	}
}

func wantPlan(t *testing.T, a *writer, name, report string, q archive.ReportQuery) {
	t.Helper()
	got, err := a.Explain(t.Context(), report, q)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "plans", name+".txt")
	if *updatePlans {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the plan is\n%s\nand was\n%s", got, want)
	}
	if line := readsAll.FindString(got); line != "" && name != "rejections_most" {
		t.Errorf("%s:\n%s", line, got)
	}
	if months := readMonths.FindAllString(got, -1); strings.HasSuffix(name, "_month") && slices.ContainsFunc(months, func(m string) bool { return m != "_2026_05" }) {
		t.Errorf("it opens %v for May:\n%s", months, got)
	}
}

var (
	// readsAll is a scan of a table or month with rows in it.
	readsAll   = regexp.MustCompile(`Seq Scan on (fleet_revision\w*|fleet_days|\w+_2026_0[1-6]) .*`)
	readMonths = regexp.MustCompile(`_2026_\d\d`)
)

// timed asks for a report's first page and returns the best of three times.
func timed(t *testing.T, a *writer, report string, q archive.ReportQuery) (best time.Duration, rows int) {
	t.Helper()
	for range 3 {
		began := time.Now()
		n, err := ask(t.Context(), a, report, q)
		if err != nil {
			t.Fatal(err)
		}
		rows = n
		if took := time.Since(began); best == 0 || took < best {
			best = took
		}
	}
	return best, rows
}

func ask(ctx context.Context, a *writer, report string, q archive.ReportQuery) (int, error) {
	switch report {
	case "changes":
		r, err := a.Changes(ctx, q)
		return items(r, err)
	case "convergence":
		r, err := a.Convergence(ctx, q)
		return items(r, err)
	case "rejections":
		r, err := a.Rejections(ctx, q)
		return items(r, err)
	case "proxies":
		r, err := a.Proxies(ctx, q)
		return items(r, err)
	case "availability":
		r, err := a.Availability(ctx, q)
		return items(r, err)
	case "metrics":
		r, err := a.Metrics(ctx, q)
		return items(r, err)
	}
	rev, err := a.Revision(ctx, q.Tenant, q.Fleet, 500)
	if err != nil {
		return 0, err
	}
	return rev.Len("type.googleapis.com/envoy.config.cluster.v3.Cluster"), nil
}

func items[T any](r *archive.Report[T], err error) (int, error) {
	if err != nil {
		return 0, err
	}
	return len(r.Items), nil
}
