package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/org/envoy-control-plane/fsm"
)

// partitioned tables are ranged by month of their column "at".
var partitioned = []string{"fleet_events", "endpoint_changes", "proxy_rejections", "revision_convergence"}

// inventoried are all tables with partitions: those of proxy_metrics are days.
func inventoried() []string { return append(slices.Clone(partitioned), "proxy_metrics") }

const (
	maintainEvery = time.Hour
	// maintainAgain is how soon what failed is tried again.
	maintainAgain = time.Minute
	// countEvery is how often the rows of the default partitions are counted.
	countEvery = time.Minute
	// maxMonthsBack bounds what is made for events that have waited; older
	// ones are the default partition's.
	maxMonthsBack = 24
)

// month is the first moment of a month, UTC.
type month struct{ time.Time }

func monthOf(t time.Time) month {
	t = t.UTC()
	return month{time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)}
}

func (m month) add(n int) month { return month{m.AddDate(0, n, 0)} }

// partition is the name of a table's partition, "fleet_events_2026_11".
func (m month) partition(table string) string { return table + "_" + m.Format("2006_01") }

// maintain makes the partitions of the months to come and drops those that
// retention has ended, when that is due. A failure is no reason not to write:
// the default partition takes what has no other.
func (s *session) maintain(ctx context.Context, st *fsm.State) {
	if time.Now().Before(s.maintained) {
		return
	}
	s.maintained = time.Now().Add(maintainEvery)
	now := time.Now()
	err := s.makeMonths(ctx, s.firstMonth(st, now), monthOf(now).add(s.cfg.MonthsAhead))
	err = errors.Join(err, s.maintainDays(ctx, now))
	if s.cfg.Retention > 0 {
		// A clock that runs ahead of the cluster's must not drop anything.
		if logTime := time.Unix(0, st.Stamp()); logTime.Before(now) {
			now = logTime
		}
		err = errors.Join(err, s.dropMonths(ctx, now.Add(-s.cfg.Retention)))
	}
	if err != nil {
		s.maintained = time.Now().Add(maintainAgain)
		s.erred(err)
		s.log.Error("archive: partitions", "error", err)
	}
}

// countDefaults tells the metrics how many rows fit in no partition, when that is
// due.
func (s *session) countDefaults(ctx context.Context) {
	if time.Now().Before(s.counted) {
		return
	}
	s.counted = time.Now().Add(countEvery)
	for _, table := range inventoried() {
		n, err := countDefault(ctx, s.conn, table)
		if err != nil {
			s.erred(err)
			s.log.Error("archive: count the rows of a default partition", "table", table, "error", err)
			return
		}
		if n > 0 {
			s.log.Warn("archive: rows fit in no partition", "table", table, "rows", n)
		}
		s.metrics.defaultRows.WithLabelValues(table).Set(float64(n))
	}
}

// firstMonth is that of the oldest event that waits.
func (s *session) firstMonth(st *fsm.State, now time.Time) month {
	first, floor := monthOf(now), monthOf(now).add(-maxMonthsBack)
	for ev := range st.Events(s.cursor) {
		if m := monthOf(time.Unix(0, ev.At)); m.Before(first.Time) {
			first = m
		}
		break // stamps never go back
	}
	if first.Before(floor.Time) {
		return floor
	}
	return first
}

// makeMonths makes the partitions from one month through another.
func (s *session) makeMonths(ctx context.Context, from, through month) error {
	for _, table := range partitioned {
		have, err := s.partitions(ctx, table)
		if err != nil {
			return err
		}
		for m := from; !m.After(through.Time); m = m.add(1) {
			if have[m.partition(table)] {
				continue
			}
			err := s.inTx(ctx, func(tx pgx.Tx) error { return makePartition(ctx, tx, table, m) })
			if err != nil {
				return fmt.Errorf("make %s: %w", m.partition(table), err)
			}
			s.log.Info("archive: partition made", "partition", m.partition(table))
		}
	}
	return nil
}

// partitions are the names of a table's partitions.
func (s *session) partitions(ctx context.Context, table string) (map[string]bool, error) {
	rows, err := s.conn.Query(ctx, `SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = $1::text::regclass`, table)
	if err != nil {
		return nil, err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	have := make(map[string]bool, len(names))
	for _, name := range names {
		have[name] = true
	}
	return have, nil
}

// makePartition makes one month's partition, unless it is there, and moves what
// the default one has of that month into it. The function of the database takes
// writers of other clusters one after the other, and runs as the tables' owner.
func makePartition(ctx context.Context, tx pgx.Tx, table string, m month) error {
	_, err := tx.Exec(ctx, "SELECT archive_make_partition($1, $2)", table, m.Time)
	return err
}

// dropMonths drops the partitions that ended before a time, and such rows of
// the default partition.
func (s *session) dropMonths(ctx context.Context, before time.Time) error {
	for _, table := range partitioned {
		have, err := s.partitions(ctx, table)
		if err != nil {
			return err
		}
		for name := range have {
			t, err := time.Parse(table+"_2006_01", name)
			if err != nil || monthOf(t).add(1).After(before) {
				continue // the default one, or not over
			}
			err = s.inTx(ctx, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, "SELECT archive_drop_partition($1, $2)", table, t)
				return err
			})
			if err != nil {
				return fmt.Errorf("drop %s: %w", name, err)
			}
			s.log.Info("archive: partition dropped", "partition", name)
		}
		err = s.inTx(ctx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "SELECT archive_trim_default($1, $2)", table, before)
			return err
		})
		if err != nil {
			return fmt.Errorf("trim %s_default: %w", table, err)
		}
	}
	return nil
}
