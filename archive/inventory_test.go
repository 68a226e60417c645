package archive_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/org/envoy-control-plane/archive"
	"github.com/org/envoy-control-plane/deploy/local"
	"github.com/org/envoy-control-plane/fsm"
)

func inventory(t *testing.T, w *writer) *archive.Inventory {
	t.Helper()
	out, err := w.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// lines are the partitions of a table: name, extent, rows.
func lines(table archive.Table) []string {
	var out []string
	for _, p := range table.Partitions {
		out = append(out, fmt.Sprint(p.Name, " ", p.From.Format("2006-01"), " ", p.To.Format("2006-01"), " ", p.Rows))
	}
	return out
}

func TestInventory(t *testing.T) {
	t.Parallel()
	dsn := local.TestDatabase(t)
	l := newLogAt(t, "c", "e", time.Date(2026, 9, 30, 23, 0, 0, 0, time.UTC))
	registry := prometheus.NewRegistry()
	w := l.start(dsn, 7, with(func(c *archive.Config) { c.MonthsAhead = 1 }), func(_ *archive.Config, d *archive.Deps, _ *archive.Archive) {
		d.Registry = registry
	})
	l.putFleet("default", "edge", "ann")
	l.drained()
	eventually(t, "reports", func() bool { return !inventory(t, w).Digested.IsZero() })
	have := inventory(t, w)
	if c := have.Cursor; c == nil || c.Seq != l.State().Seq() || c.Term != 7 || c.Node != "node-7" || time.Since(c.UpdatedAt) > time.Minute {
		t.Errorf("cursor %+v", c)
	}
	events := have.Tables[0]
	first, now := events.Partitions[0], time.Now().UTC()
	if events.Name != "fleet_events" || events.DefaultRows != 0 || first.Name != "fleet_events_2026_09" || first.Bytes == 0 ||
		first.From != time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC) || first.To != time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC) {
		t.Errorf("%+v", events)
	}
	if last := events.Partitions[len(events.Partitions)-1]; last.Name != "fleet_events_default" || !last.From.IsZero() {
		t.Errorf("last %+v", last)
	}
	if want := (now.Year()-2026)*12 + int(now.Month()) - 9 + 3; len(events.Partitions) != want {
		t.Errorf("%d partitions of %d: %q", len(events.Partitions), want, lines(events))
	}

	// A gap, rows outside of all months, and what Postgres counts itself.
	d := open(t, dsn)
	d.run("INSERT INTO archive_gaps VALUES ('c', 'e', 5, 9, 'n1')")
	d.run(`INSERT INTO fleet_events SELECT 'x', 'x', n, '', 0, 0, '2031-01-01', '', 'k', '', '{}' FROM generate_series(1, 3) n`)
	d.run(`INSERT INTO archive_quarantine (cluster, epoch, seq, log_index, at, tenant, kind, sqlstate, reason, content, node)
		VALUES ('c', 'e', 4, 4, now(), '', 'k', '22P05', 'r', '', 'n1')`)
	d.run("ANALYZE fleet_events")
	have = inventory(t, w)
	if have.Gaps != 1 || have.GapEvents != 5 || have.Quarantined != 1 || time.Since(have.LastGap) > time.Minute || have.Tables[0].DefaultRows != 3 || have.Tables[0].Partitions[0].Rows != l.State().Seq() {
		t.Errorf("%d gaps of %d events, %q", have.Gaps, have.GapEvents, lines(have.Tables[0]))
	}
	w.stop()
	if n, err := testutil.GatherAndCount(registry, "ecp_archive_default_rows"); n != 0 || err != nil {
		t.Errorf("%d series of a node that does not write, %v", n, err)
	}
	// The next one counts when it begins.
	second := prometheus.NewRegistry()
	l.start(dsn, 8, func(_ *archive.Config, d *archive.Deps, _ *archive.Archive) { d.Registry = second })
	const series = `# HELP ecp_archive_default_rows Rows that fit in no monthly partition, up to 10,000; from the node that writes.
# TYPE ecp_archive_default_rows gauge
ecp_archive_default_rows{table="endpoint_changes"} 0
ecp_archive_default_rows{table="fleet_events"} 3
ecp_archive_default_rows{table="proxy_metrics"} 0
ecp_archive_default_rows{table="proxy_rejections"} 0
ecp_archive_default_rows{table="revision_convergence"} 0
`
	eventually(t, "the metric", func() bool {
		return testutil.GatherAndCompare(second, strings.NewReader(series), "ecp_archive_default_rows") == nil
	})
}

// Without a database there is a refusal, and the report of the writer says why.
func TestInventoryWithoutADatabase(t *testing.T) {
	t.Parallel()
	dsn, l := local.TestDatabase(t), newLog(t, "c", "e")
	w := l.start(strings.Replace(dsn, "@", "-wrong@", 1), 1, with(func(c *archive.Config) { c.Retention = time.Hour }))
	eventually(t, "a failure", func() bool { return w.Report().LastErrorAt > 0 })
	r := w.Report()
	if r.Reason == "" || r.LastError == "" || r.RetentionMs != 3_600_000 || r.MonthsAhead != 3 {
		t.Errorf("report %v", r)
	}
	_, err := w.Inventory(t.Context())
	if fsm.CodeOf(err) != fsm.CodeUnavailable || !strings.Contains(err.Error(), "password authentication failed") {
		t.Errorf("got %v", err)
	}
}
