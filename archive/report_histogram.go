package archive

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
)

// quantiles completes the rows that are histograms.
func (m *metricsReader) quantiles(ctx context.Context, items []Metric) error {
	type key struct{ from, fleet, proxy, labels string }
	of := map[key]*Metric{}
	var since, until time.Time
	for i := range items {
		x := &items[i]
		if x.Kind != "histogram" {
			continue
		}
		of[key{x.From.Format(time.RFC3339), x.Fleet, x.Proxy, x.labels}] = x
		if since = x.From; until.IsZero() {
			until = x.To
		}
	}
	if len(of) == 0 {
		return nil
	}
	sql, args := m.histograms(since, until)
	rows, err := m.tx.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	var from time.Time
	var k key
	var le float64
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&from, &k.fleet, &k.proxy, &k.labels, &le, &n}, func() error {
		k.from = from.UTC().Format(time.RFC3339)
		if x := of[k]; x != nil {
			x.buckets = append(x.buckets, bucket{le, n})
		}
		return nil
	})
	for _, x := range of {
		x.P50, x.P90, x.P99 = x.buckets.quantile(0.5, x.Count), x.buckets.quantile(0.9, x.Count), x.buckets.quantile(0.99, x.Count)
	}
	return err
}

// histograms sums the buckets of rows up.
func (m *metricsReader) histograms(since, until time.Time) (string, []any) {
	rows, args := m.selected(since, until, " CROSS JOIN LATERAL unnest(m.le, m.counts) AS b (le, n)")
	return fmt.Sprintf(`SELECT %s, m.fleet, %s, m.labels::text, b.le, sum(b.n)::bigint
    %s AND m.kind = 'histogram'
    GROUP BY 1, 2, 3, 4, 5 ORDER BY 5`, m.period(), m.proxy(), rows), args
}

// buckets of a histogram, by their upper bounds; each begins where the one before
// ends.
type buckets []bucket

type bucket struct {
	le float64
	n  int64
}

// quantile estimates one of count observations, as if those in a bucket were
// spread evenly. What is above the last bucket counts as its bound. Nil when there
// are no buckets.
func (b buckets) quantile(q float64, count int64) *float64 {
	if len(b) == 0 || count <= 0 {
		return nil
	}
	rank, below, through := q*float64(count), math.Min(0, b[0].le), 0.0
	for _, x := range b {
		if n := float64(x.n); n > 0 && through+n >= rank {
			v := below + (x.le-below)*math.Max(0, rank-through)/n
			return &v
		}
		through += float64(x.n)
		below = x.le
	}
	return &below
}
