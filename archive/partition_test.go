package archive_test

import (
	"testing"
	"time"

	"github.com/org/envoy-control-plane/archive"
	"github.com/org/envoy-control-plane/deploy/local"
)

const partitionsOf = `SELECT string_agg(c.relname, ' ' ORDER BY c.relname) FROM pg_inherits i
	JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = $1::text::regclass`

func monthName(table string, offset int) string {
	now := time.Now().UTC()
	return time.Date(now.Year(), now.Month()+time.Month(offset), 1, 0, 0, 0, 0, time.UTC).Format(table + "_2006_01")
}

func TestPartitionsAreMadeAhead(t *testing.T) {
	t.Parallel()
	dsn, l := local.TestDatabase(t), newLog(t, "c", "e")
	w := l.start(dsn, 1, with(func(c *archive.Config) { c.MonthsAhead = 2 }))
	l.drained()
	w.stop()
	d := open(t, dsn)
	for _, table := range []string{"fleet_events", "endpoint_changes", "proxy_rejections"} {
		d.want(monthName(table, 0)+" "+monthName(table, 1)+" "+monthName(table, 2)+" "+table+"_default", partitionsOf, table)
	}
	d.want(monthName("fleet_events", 0), "SELECT DISTINCT tableoid::regclass FROM fleet_events")
	// The indexes came along.
	d.want("3", "SELECT count(*) FROM pg_inherits WHERE inhparent = 'idx_fleet_events_tenant_seq'::regclass AND inhrelid::regclass::text !~ 'default'")
	// A second time nothing is left to do.
	l.start(dsn, 2, with(func(c *archive.Config) { c.MonthsAhead = 2 }))
	l.putFleet("default", "edge", "ann")
	l.drained()
	d.want(monthName("fleet_events", 0)+" "+monthName("fleet_events", 1)+" "+monthName("fleet_events", 2)+" fleet_events_default",
		partitionsOf, "fleet_events")
}

// A row that came before its partition was made moves there.
func TestDefaultRowsMove(t *testing.T) {
	t.Parallel()
	dsn, l := local.TestDatabase(t), newLog(t, "c", "e")
	w := l.start(dsn, 1, with(func(c *archive.Config) { c.MonthsAhead = 1 }))
	l.drained()
	l.advance(100 * 24 * time.Hour)
	l.putFleet("default", "edge", "ann")
	l.drained()
	w.stop()
	d := open(t, dsn)
	d.want("1", "SELECT count(*) FROM fleet_events_default")
	l.start(dsn, 2, with(func(c *archive.Config) { c.MonthsAhead = 5 }))
	l.putFleet("default", "edge", "ann")
	l.drained()
	d.want("0", "SELECT count(*) FROM fleet_events_default")
	d.wantOnce("e", 0, l.State().Seq())
}

func TestRetentionDropsWhatHasEnded(t *testing.T) {
	t.Parallel()
	dsn := local.TestDatabase(t)
	l := newLogAt(t, "c", "e", time.Now().Add(-65*24*time.Hour))
	w := l.start(dsn, 1)
	l.putFleet("default", "edge", "ann")
	l.drained()
	w.stop()
	d := open(t, dsn)
	old := time.Now().UTC().Add(-65 * 24 * time.Hour).Format("fleet_events_2006_01")
	d.want(old, "SELECT DISTINCT tableoid::regclass FROM fleet_events")

	// The cluster's own time has not moved: nothing is dropped, whatever the
	// node's clock says.
	keep := with(func(c *archive.Config) { c.Retention = 24 * time.Hour })
	w = l.start(dsn, 2, keep)
	time.Sleep(200 * time.Millisecond)
	w.stop()
	d.want("true", "SELECT count(*) > 0 FROM fleet_events")

	l.advance(65 * 24 * time.Hour)
	l.putFleet("default", "edge", "ann")
	w = l.start(dsn, 3, keep)
	l.drained()
	w.stop()
	d.want("", "SELECT to_regclass($1)", old)
	d.want("1", "SELECT count(*) FROM fleet_events")
	l.start(dsn, 4, keep)
	l.putFleet("default", "edge", "ann")
	l.drained()
	d.want("2", "SELECT count(*) FROM fleet_events")
}
