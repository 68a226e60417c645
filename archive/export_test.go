package archive

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Steps of the writer's work, in order.
var Steps = []string{
	string(stepClaim), string(stepCursor), string(stepRows), string(stepCommit), string(stepAck), string(stepDone),
}

// At has f called before each step; an error ends the writer there. To be
// called before Run.
func (a *Archive) At(f func(string) error) {
	a.at = func(s step) error { return f(string(s)) }
}

// Explain returns the plan of a report's query, without costs.
func (a *Archive) Explain(ctx context.Context, report string, q ReportQuery) (string, error) {
	if err := q.bound(defaultRange, maxMonths); err != nil {
		return "", err
	}
	var plan []string
	err := a.read(ctx, func(ctx context.Context, r *reading) error {
		extents, err := r.extents(ctx)
		if err != nil {
			return err
		}
		below, asOf := place{At: q.Until}, time.Date(2026, 7, 1, 6, 0, 0, 0, time.UTC)
		var sql string
		var args []any
		switch report {
		case "changes":
			sql, args = q.changes(r.spans[0], below, q.Limit)
		case "convergence":
			sql, args = q.convergence(r.spans[0], below, q.Limit)
		case "rejections":
			sql, args = q.rejections(r, rank{})
		case "proxies":
			q.Interval = "day"
			sql, args = q.presence(r, extents, "build", asOf, period{})
		case "availability":
			q.Interval = "month"
			sql, args = q.presence(r, extents, "fleet", asOf, period{})
		case "metrics":
			q.Interval, q.Group = "hour", "fleet"
			m := &metricsReader{
				reading: r, query: &q, labels: "{}", length: time.Hour,
				clusters: []string{"c"}, before: []time.Time{time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}, fleets: []string{q.Fleet},
			}
			sql, args = m.totals(q.Since, q.Until, q.Limit)
		case "revision":
			sql, args = pastResources, []any{[]string{"c", "c"}, []string{"e", "e"}, []int64{100, 200}}
		}
		rows, err := r.tx.Query(ctx, "EXPLAIN (COSTS OFF) "+sql, args...)
		if err != nil {
			return err
		}
		plan, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return strings.Join(plan, "\n") + "\n", err
}

// MeasureCursor is a cursor of a report of metrics over a time.
func MeasureCursor(since, until time.Time) string {
	return encodeCursor(measure{Since: since, Until: until, From: since})
}

// Quantile is that of a histogram with these bounds and counts.
func Quantile(le []float64, n []int64, count int64, q float64) *float64 {
	var b buckets
	for i := range le {
		b = append(b, bucket{le[i], n[i]})
	}
	return b.quantile(q, count)
}
