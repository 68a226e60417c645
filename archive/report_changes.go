package archive

import (
	"context"
	"encoding/json"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// maxSeq is above every sequence.
const maxSeq = math.MaxInt64

// Change is one committed change of what a tenant has, or of the tenant.
type Change struct {
	Seq, Index      uint64
	At              time.Time
	Fleet, Kind, By string
	// Changes counts the resources that changed, Changed names the first 100:
	// [{"op", "type", "name"}].
	Changes int
	Changed json.RawMessage
	// Data is the rest of the event's data.
	Data json.RawMessage

	epoch string
}

// changes selects the events that are not of crowds of proxies; the same words
// as in the index.
const changes = `
SELECT epoch, seq, log_index, at, fleet, kind, by, coalesce(jsonb_array_length(data->'changed'), 0),
    jsonb_path_query_array(data, '$.changed[0 to 99]'), data - 'changed'
FROM fleet_events
WHERE cluster = $1 AND epoch = $2 AND tenant = $3 AND at >= $4 AND at < $10 AND (at, seq) < ($5, $6) AND seq BETWEEN $7 AND $8
  AND kind NOT IN ('proxy_connected', 'proxy_disconnected', 'proxy_rejected', 'proxy_recovered',
      'proxy_deleted', 'proxy_collapsed', 'convergence_recorded')`

// Changes reports who changed what and when, newest first.
func (a *Archive) Changes(ctx context.Context, q ReportQuery) (*Report[Change], error) {
	if err := q.bound(defaultRange, maxRange); err != nil {
		return nil, err
	}
	out := &Report[Change]{Since: q.Since, Until: q.Until}
	err := a.read(ctx, func(ctx context.Context, r *reading) error {
		var err error
		out.Items, out.Next, err = each(r, &q, func(sp span, below place, limit int) ([]Change, error) {
			sql, args := q.changes(sp, below, limit)
			rows, err := r.tx.Query(ctx, sql, args...)
			if err != nil {
				return nil, err
			}
			return pgx.CollectRows(rows, scanChange)
		}, func(c Change) place { return place{c.epoch, c.At, c.Seq} })
		if len(r.spans) > 0 {
			out.AsOf = r.asOf([]extent{{position: position{seq: maxSeq}}})
		}
		return err
	})
	return out, err
}

func (q *ReportQuery) changes(sp span, below place, limit int) (string, []any) {
	args := []any{
		sp.clusterID, sp.epoch, q.Tenant, q.Since, below.At, int64(below.Seq),
		int64(sp.first), int64(sp.through), limit, q.Until,
	}
	sql := changes
	for _, f := range []struct{ column, value string }{{"fleet", q.Fleet}, {"by", q.By}, {"kind", q.Kind}} {
		if f.value != "" {
			args = append(args, f.value)
			sql += " AND " + f.column + " = $" + strconv.Itoa(len(args))
		}
	}
	return sql + " ORDER BY at DESC, seq DESC LIMIT $9", args
}

func scanChange(row pgx.CollectableRow) (Change, error) {
	var c Change
	var seq, index int64
	err := row.Scan(&c.epoch, &seq, &index, &c.At, &c.Fleet, &c.Kind, &c.By, &c.Changes, &c.Changed, &c.Data)
	c.Seq, c.Index, c.At = uint64(seq), uint64(index), c.At.UTC()
	return c, err
}
