package archive_test

import (
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

// noon is when the tests' metrics begin.
var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// measured inserts a row as the nodes write them.
func (d db) measured(cluster string, minute int, fleet, proxy, name, labels, kind string, count int, sum float64, rest string) {
	d.t.Helper()
	d.run(`INSERT INTO proxy_metrics (cluster, at, tenant, fleet, proxy, node, name, labels, kind, count, sum, min, max, last, le, counts)
		SELECT $1, $2, 'default', $3, $4, 'n', $5, $6, $7, $8, $9, `+rest,
		cluster, noon.Add(time.Duration(minute)*time.Minute), fleet, proxy, name, labels, kind, count, sum)
}

const (
	noMore  = "NULL, NULL, NULL, NULL, NULL"
	fromTo9 = "1, 9, 5, NULL, NULL"
)

// text shows rows.
func metricsText(r *archive.Report[archive.Metric]) string {
	var out []string
	for _, m := range r.Items {
		text := fmt.Sprintf("%s-%s %s %s %s n=%d c=%d v=%g", m.From.Format("15:04"), m.To.Format("15:04"), m.Fleet, m.Proxy, m.Labels, m.Proxies, m.Count, m.Value)
		for name, v := range map[string]*float64{"min": m.Min, "p50": m.P50} {
			if v != nil {
				text += fmt.Sprintf(" %s=%.4g", name, *v)
			}
		}
		out = append(out, strings.Join(strings.Fields(text), " "))
	}
	return strings.Join(out, "\n")
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	url, l := local.TestDatabase(t), newLog(t, "c", "e")
	l.putFleet("default", "edge", "ann")
	l.putFleet("default", "mesh", "ann")
	a := l.start(url, 1)
	l.drained()
	d := open(t, url)
	for minute := range 3 {
		for _, proxy := range []string{"p1", "p2"} {
			d.measured("c", minute, "edge", proxy, "rq", `{"class": "2"}`, "counter", 6, 60, noMore)
			d.measured("c", minute, "edge", proxy, "cx", `{}`, "gauge", 6, 30, fromTo9)
			d.measured("c", minute, "edge", proxy, "time", `{}`, "histogram", 4, 100, "NULL, NULL, NULL, '{10,20,50}', '{0,2,2}'")
		}
		d.measured("c", minute, "edge", "p1", "rq", `{"class": "5"}`, "counter", 6, 1, noMore)
		d.measured("c", minute, "mesh", "p3", "rq", `{"class": "2"}`, "counter", 6, 7, noMore)
	}
	d.measured("c", 1, "gone", "p4", "rq", `{}`, "counter", 1, 1, noMore)     // no fleet any more
	d.measured("other", 1, "edge", "p1", "rq", `{}`, "counter", 1, 1, noMore) // another cluster
	d.measured("c", 2, "edge", "p1", "cx", `{}`, "gauge", 6, 90, fromTo9)     // a second stream in the same minute
	for _, c := range []struct {
		name string
		q    archive.ReportQuery
		want string
	}{
		{"counters of all fleets, newest first", archive.ReportQuery{Name: "rq", Since: noon.Add(time.Minute)}, `
			12:02-12:03 edge {"class": "2"} n=2 c=12 v=120
			12:02-12:03 edge {"class": "5"} n=1 c=6 v=1
			12:02-12:03 mesh {"class": "2"} n=1 c=6 v=7
			12:01-12:02 edge {"class": "2"} n=2 c=12 v=120
			12:01-12:02 edge {"class": "5"} n=1 c=6 v=1
			12:01-12:02 mesh {"class": "2"} n=1 c=6 v=7`},
		{"by labels and the hour, cut at until", archive.ReportQuery{Name: "rq", Labels: "class=5", Interval: "hour"}, `
			12:00-12:03 edge {"class": "5"} n=1 c=18 v=3`},
		{"a fleet that is gone", archive.ReportQuery{Name: "rq", Fleet: "gone"}, `12:01-12:02 gone {} n=1 c=1 v=1`},
		{"gauges add up over proxies and not over time", archive.ReportQuery{Name: "cx", Interval: "hour"}, `
			12:00-12:03 edge {} n=2 c=42 v=12.5 min=1`},
		{"by proxy", archive.ReportQuery{Name: "cx", Group: "proxy", Since: noon.Add(2 * time.Minute)}, `
			12:02-12:03 edge p1 {} n=1 c=12 v=10 min=1
			12:02-12:03 edge p2 {} n=1 c=6 v=5 min=1`},
		{"of one proxy", archive.ReportQuery{Name: "cx", Proxy: "p2", Fleet: "edge", Since: noon.Add(2 * time.Minute)}, `
			12:02-12:03 edge {} n=1 c=6 v=5 min=1`},
		{"histograms are merged", archive.ReportQuery{Name: "time", Interval: "hour"}, `
			12:00-12:03 edge {} n=2 c=24 v=25 p50=20`},
		{"until within an interval", archive.ReportQuery{Name: "rq", Labels: "class=2", Interval: "hour", Until: noon.Add(90 * time.Second)}, `
			12:00-12:01 edge {"class": "2"} n=2 c=24 v=240
			12:00-12:01 mesh {"class": "2"} n=1 c=12 v=14`},
		{"no such metric", archive.ReportQuery{Name: "x"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.q.Tenant = "default"; c.q.Until.IsZero() {
				c.q.Until = noon.Add(3 * time.Minute)
			}
			r, err := a.Metrics(t.Context(), c.q)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.ReplaceAll(strings.TrimSpace(c.want), "\t", "")
			if got := metricsText(r); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			// The same, row by row.
			var all []archive.Metric
			for q := c.q; ; {
				q.Limit = 1
				page, err := a.Metrics(t.Context(), q)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, page.Items...)
				if q.Cursor = page.Next; q.Cursor == "" {
					break
				}
				q.Since, q.Until = page.Since, page.Until
			}
			if got := metricsText(&archive.Report[archive.Metric]{Items: all}); got != want {
				t.Errorf("by pages of one:\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestMetricsRefuses(t *testing.T) {
	t.Parallel()
	l := newLog(t, "c", "e")
	a := l.start(local.TestDatabase(t), 1)
	l.drained()
	for name, q := range map[string]archive.ReportQuery{
		"no name":       {},
		"interval":      {Name: "a", Interval: "week"},
		"group":         {Name: "a", Group: "node"},
		"labels":        {Name: "a", Labels: "x"},
		"empty label":   {Name: "a", Labels: "=x"},
		"too many":      {Name: "a", Since: noon, Until: noon.Add(1501 * time.Minute)},
		"too long":      {Name: "a", Interval: "day", Since: noon, Until: noon.AddDate(0, 0, 367)},
		"backwards":     {Name: "a", Since: noon, Until: noon.Add(-time.Minute)},
		"cursor":        {Name: "a", Cursor: "x"},
		"wide cursor":   {Name: "a", Cursor: archive.MeasureCursor(noon, noon.AddDate(1, 0, 0))},
		"limit":         {Name: "a", Limit: 1001},
		"negative":      {Name: "a", Limit: -1},
		"not yet there": {Name: "a", Since: noon.AddDate(99, 0, 0)},
	} {
		q.Tenant = "default"
		if _, err := a.Metrics(t.Context(), q); fsm.CodeOf(err) != fsm.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r, err := a.Metrics(t.Context(), archive.ReportQuery{Tenant: "default", Name: "a", Labels: "x=\x00=b"}); err != nil || len(r.Items) != 0 {
		t.Errorf("%v, %v", r, err)
	}
}

// A cluster that was seeded from another's backup shows what that one measured
// until then, and what it went on to measure is its own.
func TestMetricsFollowTheLineage(t *testing.T) {
	t.Parallel()
	url, blue := local.TestDatabase(t), newLog(t, "blue", "e1")
	blue.putFleet("default", "edge", "ann")
	w := blue.start(url, 1)
	blue.drained()
	w.stop()
	green := blue.branch(&fsmpb.Identity{
		ClusterId: "green", Epoch: "e2", ParentClusterId: "blue", ParentEpoch: "e1", ParentSeq: blue.State().Seq(),
	})
	a := green.start(url, 1)
	green.putFleet("default", "edge", "bob")
	green.drained()
	d := open(t, url)
	d.run("UPDATE archive_epochs SET created_at = $1 WHERE cluster = 'green'", noon.Add(2*time.Minute))
	for minute := range 4 {
		d.measured("blue", minute, "edge", "p1", "rq", `{}`, "counter", 6, 1, noMore)
		if minute >= 2 {
			d.measured("green", minute, "edge", "p1", "rq", `{}`, "counter", 6, 10, noMore)
		}
	}
	r, err := a.Metrics(t.Context(), archive.ReportQuery{Tenant: "default", Name: "rq", Since: noon, Until: noon.Add(4 * time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	want := "12:03-12:04 edge {} n=1 c=6 v=10\n12:02-12:03 edge {} n=1 c=6 v=10\n12:01-12:02 edge {} n=1 c=6 v=1\n12:00-12:01 edge {} n=1 c=6 v=1"
	if got := metricsText(r); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Percentiles of buckets are those of what is in them, as near as the buckets
// tell.
func TestQuantiles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		le    []float64
		n     []int64
		count int64
		q     float64
		want  float64
	}{
		{[]float64{10}, []int64{4}, 4, 0.5, 5},
		{[]float64{10, 20}, []int64{0, 4}, 4, 0.5, 15},
		{[]float64{10, 20, 40, 80}, []int64{5, 4, 0, 1}, 10, 0.9, 20},
		{[]float64{10, 20, 40, 80}, []int64{5, 4, 0, 1}, 10, 0.95, 60},
		{[]float64{10}, []int64{1}, 100, 0.99, 10}, // above all bounds
		{[]float64{-5, 5}, []int64{2, 2}, 4, 0.5, -5},
		{[]float64{-5, 5}, []int64{2, 2}, 4, 0.75, 0},
	} {
		if got := archive.Quantile(c.le, c.n, c.count, c.q); got == nil || math.Abs(*got-c.want) > 1e-9 {
			t.Errorf("%v: %v", c, got)
		}
	}
	if archive.Quantile(nil, nil, 5, 0.5) != nil || archive.Quantile([]float64{1}, []int64{0}, 0, 0.5) != nil {
		t.Error("a percentile of nothing")
	}
}

// Days are made ahead and dropped by a retention of their own; what the default
// partition has of one moves.
func TestMetricsByDay(t *testing.T) {
	t.Parallel()
	url, l := local.TestDatabase(t), newLog(t, "c", "e")
	if err := archive.Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	d := open(t, url)
	today := time.Now().UTC().Truncate(24 * time.Hour)
	insert := func(at time.Time) {
		d.run(`INSERT INTO proxy_metrics (cluster, at, tenant, fleet, proxy, node, name, kind, count, sum)
			VALUES ('c', $1, 'default', 'edge', 'p', 'n', 'g', 'gauge', 1, 1)`, at)
	}
	insert(today.Add(time.Hour))
	insert(today.AddDate(0, 0, -9).Add(time.Hour)) // of no partition
	old := today.AddDate(0, 0, -5)
	d.run("SELECT proxy_metrics_make_day($1)", old)
	d.run("SELECT proxy_metrics_make_day($1)", today.AddDate(0, 0, -2))
	insert(old.Add(time.Hour))
	insert(today.AddDate(0, 0, -2).Add(time.Hour))
	l.start(url, 1, with(func(c *archive.Config) { c.MetricsRetention = 72 * time.Hour }))
	l.drained()
	eventually(t, "old ones are gone", func() bool { return d.text("SELECT count(*) FROM proxy_metrics") == "2" })
	d.want("", "SELECT to_regclass('"+old.Format("proxy_metrics_2006_01_02")+"')")
	d.want("2", "SELECT count(DISTINCT tableoid) FROM proxy_metrics WHERE tableoid <> 'proxy_metrics_default'::regclass")
	d.want("17", "SELECT count(*) FROM pg_inherits WHERE inhparent = 'proxy_metrics'::regclass") // today, 14 ahead, one of the past, default
	d.want("false", "SELECT proxy_metrics_make_day($1)", today)
	// Nobody drops what is younger than a day, whatever a node's clock says.
	d.run("SELECT proxy_metrics_drop_days($1)", today.AddDate(1, 0, 0))
	d.want("true", "SELECT to_regclass('"+today.Format("proxy_metrics_2006_01_02")+"') IS NOT NULL")
	d.want("1", "SELECT count(*) FROM proxy_metrics")
}

// A leader of the release before makes months of the table; days that are in one
// are not made, and it is dropped when it is over.
func TestMetricsInAMonth(t *testing.T) {
	t.Parallel()
	url := local.TestDatabase(t)
	if err := archive.Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	d := open(t, url)
	d.run("CREATE TABLE proxy_metrics_2025_01 PARTITION OF proxy_metrics FOR VALUES FROM ('2025-01-01 00:00+00') TO ('2025-02-01 00:00+00')")
	d.want("false", "SELECT proxy_metrics_make_day('2025-01-15')")
	d.want("true", "SELECT proxy_metrics_make_day('2025-02-01')")
	d.want("", "SELECT string_agg(d, ' ') FROM proxy_metrics_drop_days('2025-01-31') AS d")
	d.want("proxy_metrics_2025_01", "SELECT string_agg(d, ' ') FROM proxy_metrics_drop_days('2025-02-01') AS d")
	d.want("proxy_metrics_2025_02_01", "SELECT string_agg(d, ' ') FROM proxy_metrics_drop_days('2025-02-02') AS d")
}
