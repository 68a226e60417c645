package archive

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Convergence is one revision and how the proxies came to have it. Counted are
// the streams that were there when it came.
type Convergence struct {
	Seq, Index, Revision uint64
	At                   time.Time
	Fleet, By, Message   string
	Changes              int
	// Expected is how many streams were to have it; the others are what became
	// of them.
	Expected, Synced, Rejected, Departed, Pending int
	// Converged: there were some, and all that did not leave have it.
	Converged bool
	// P50, P99 and Max are times from the commit until streams were synced; the
	// percentiles are rounded up by a sixteenth at most.
	P50, P99, Max time.Duration
	// Slowest are the synced ones that took longest, Waiting some of the pending.
	Slowest []SlowProxy
	Waiting []string

	epoch string
}

// SlowProxy is a proxy that took long.
type SlowProxy struct {
	Proxy, Node string
	After       time.Duration
}

// maxSlowest bounds Slowest and Waiting.
const maxSlowest = 10

const convergence = `
WITH page AS (
    SELECT epoch, seq, log_index, at, fleet, revision, by, message, changes FROM fleet_revisions
    WHERE cluster = $1 AND epoch = $2 AND tenant = $3 AND at >= $4 AND at < $11 AND (at, seq) < ($5, $6) AND seq BETWEEN $7 AND $8
      AND ($9 = '' OR fleet = $9)
    ORDER BY at DESC, seq DESC LIMIT $10)
SELECT page.*, coalesce(node, ''), coalesce(expected, 0), coalesce(synced, 0), coalesce(rejected, 0), coalesce(departed, 0),
    within_ms, streams, slowest, waiting
FROM page LEFT JOIN revision_convergence c
  ON c.cluster = $1 AND c.epoch = $2 AND c.tenant = $3 AND c.fleet = page.fleet AND c.at = page.at AND c.revision = page.revision
  AND c.at >= $4 AND c.at < $11
ORDER BY page.at DESC, page.seq DESC, c.node`

// Convergence reports how long each revision took to reach its proxies, newest
// first.
func (a *Archive) Convergence(ctx context.Context, q ReportQuery) (*Report[Convergence], error) {
	if err := q.bound(defaultRange, maxRange); err != nil {
		return nil, err
	}
	out := &Report[Convergence]{Since: q.Since, Until: q.Until}
	err := a.read(ctx, func(ctx context.Context, r *reading) error {
		extents, err := r.extents(ctx)
		if err != nil {
			return err
		}
		out.AsOf = r.asOf(extents)
		out.Items, out.Next, err = each(r, &q, func(sp span, below place, limit int) ([]Convergence, error) {
			sql, args := q.convergence(sp, below, limit)
			rows, err := r.tx.Query(ctx, sql, args...)
			if err != nil {
				return nil, err
			}
			return collectConvergence(rows)
		}, func(c Convergence) place { return place{c.epoch, c.At, c.Seq} })
		return err
	})
	return out, err
}

func (q *ReportQuery) convergence(sp span, below place, limit int) (string, []any) {
	return convergence, []any{
		sp.clusterID, sp.epoch, q.Tenant, q.Since, below.At, int64(below.Seq),
		int64(sp.first), int64(sp.through), q.Fleet, limit, q.Until,
	}
}

// nodeRow is one node's part in a revision.
type nodeRow struct {
	node                                 string
	expected, synced, rejected, departed int
	within, streams                      []int32
	slowest                              []byte
	waiting                              []string
}

// collectConvergence puts the rows of a revision's nodes together.
func collectConvergence(rows pgx.Rows) ([]Convergence, error) {
	var out []Convergence
	var merged *merge
	var c Convergence
	var n nodeRow
	var seq, index, revision int64
	_, err := pgx.ForEachRow(rows, []any{
		&c.epoch, &seq, &index, &c.At, &c.Fleet, &revision, &c.By, &c.Message, &c.Changes,
		&n.node, &n.expected, &n.synced, &n.rejected, &n.departed, &n.within, &n.streams, &n.slowest, &n.waiting,
	}, func() error {
		c.Seq, c.Index, c.Revision, c.At = uint64(seq), uint64(index), uint64(revision), c.At.UTC()
		if len(out) == 0 || out[len(out)-1].Seq != c.Seq {
			out = append(out, c)
			merged = &merge{reached: map[int32]int{}}
		}
		return merged.add(&out[len(out)-1], n)
	})
	return out, err
}

// merge sums what nodes say of one revision.
type merge struct{ reached map[int32]int }

func (m *merge) add(c *Convergence, n nodeRow) error {
	c.Expected += n.expected
	c.Synced += n.synced
	c.Rejected += n.rejected
	c.Departed += n.departed
	c.Pending = max(0, c.Expected-c.Synced-c.Rejected-c.Departed)
	c.Converged = c.Synced > 0 && c.Synced+c.Departed == c.Expected
	for i := range min(len(n.within), len(n.streams)) {
		m.reached[n.within[i]] += int(n.streams[i])
	}
	var slow []struct {
		Proxy   string `json:"proxy"`
		AfterMS int64  `json:"after_ms"`
	}
	if len(n.slowest) > 0 {
		if err := json.Unmarshal(n.slowest, &slow); err != nil {
			return err
		}
	}
	for _, s := range slow {
		c.Slowest = append(c.Slowest, SlowProxy{Proxy: s.Proxy, Node: n.node, After: time.Duration(s.AfterMS) * time.Millisecond})
	}
	slices.SortStableFunc(c.Slowest, func(a, b SlowProxy) int { return cmp.Compare(b.After, a.After) })
	c.Slowest = c.Slowest[:min(len(c.Slowest), maxSlowest)]
	c.Waiting = append(c.Waiting, n.waiting...)
	c.Waiting = c.Waiting[:min(len(c.Waiting), maxSlowest)]
	c.P50, c.P99 = m.percentile(50), m.percentile(99)
	if len(c.Slowest) > 0 {
		c.Max = c.Slowest[0].After
		c.P50, c.P99 = min(c.P50, c.Max), min(c.P99, c.Max)
	}
	return nil
}

// percentile is the time within which so many of a hundred streams were synced.
func (m *merge) percentile(percent int) time.Duration {
	total := 0
	bounds := make([]int32, 0, len(m.reached))
	for within, n := range m.reached {
		bounds, total = append(bounds, within), total+n
	}
	slices.Sort(bounds)
	seen := 0
	for _, within := range bounds {
		if seen += m.reached[within]; 100*seen >= percent*total {
			return time.Duration(within) * time.Millisecond
		}
	}
	return 0
}
