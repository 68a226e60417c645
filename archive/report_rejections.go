package archive

import (
	"context"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// Rejections are the NACKs of one text, of a fleet and type.
type Rejections struct {
	Fleet, Type, Detail string
	// Count of rejections, of how many Proxies; Proxy is one of them.
	Count, Proxies int
	Proxy          string
	First, Last    time.Time
	// FirstRevision and LastRevision are the lowest and the highest that was rejected.
	FirstRevision, LastRevision uint64

	id int64
}

// rank is where a page of rejections ends.
type rank struct {
	Since time.Time `json:"s"`
	Until time.Time `json:"u"`
	Count int       `json:"n"`
	Fleet string    `json:"f"`
	Type  string    `json:"t"`
	ID    int64     `json:"i"`
}

const rejections = `
SELECT r.fleet, r.type, r.detail_id, min(r.detail), count(*), count(DISTINCT r.proxy), min(r.proxy),
    min(r.at), max(r.at), min(r.revision), max(r.revision)
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS s (cluster, epoch, first, through)
JOIN proxy_rejections r ON r.cluster = s.cluster AND r.epoch = s.epoch AND r.seq BETWEEN s.first AND s.through
WHERE r.tenant = $5 AND r.at >= $6 AND r.at < $7`

// Rejections reports what proxies rejected, by fleet and text, most first.
func (a *Archive) Rejections(ctx context.Context, q ReportQuery) (*Report[Rejections], error) {
	if err := q.bound(defaultRange, maxRange); err != nil {
		return nil, err
	}
	last := rank{Since: q.Since, Until: q.Until}
	if err := decodeCursor(q.Cursor, &last); err != nil {
		return nil, err
	}
	q.Since, q.Until = last.Since, last.Until // what came since the first page counts on none
	out := &Report[Rejections]{Since: q.Since, Until: q.Until}
	err := a.read(ctx, func(ctx context.Context, r *reading) error {
		extents, err := r.extents(ctx)
		if err != nil {
			return err
		}
		out.AsOf = r.asOf(extents)
		sql, args := q.rejections(r, last)
		rows, err := r.tx.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		out.Items, err = pgx.CollectRows(rows, scanRejections)
		return err
	})
	if len(out.Items) > q.Limit {
		out.Items = out.Items[:q.Limit]
		end := out.Items[q.Limit-1]
		out.Next = encodeCursor(rank{q.Since, q.Until, end.Count, end.Fleet, end.Type, end.id})
	}
	return out, err
}

func (q *ReportQuery) rejections(r *reading, last rank) (string, []any) {
	clusters, epochs, first, through := r.spanArrays()
	args := []any{clusters, epochs, first, through, q.Tenant, q.Since, q.Until}
	param := func(v any) string {
		args = append(args, v)
		return "$" + strconv.Itoa(len(args))
	}
	sql := rejections
	if q.Fleet != "" {
		sql += " AND r.fleet = " + param(q.Fleet)
	}
	sql += " GROUP BY r.fleet, r.type, r.detail_id"
	if last.Count > 0 {
		n := param(last.Count)
		sql += " HAVING count(*) < " + n + " OR count(*) = " + n + " AND (r.fleet, r.type, r.detail_id) > (" +
			param(last.Fleet) + ", " + param(last.Type) + ", " + param(last.ID) + ")"
	}
	return sql + " ORDER BY count(*) DESC, r.fleet, r.type, r.detail_id LIMIT " + param(q.Limit+1), args
}

func scanRejections(row pgx.CollectableRow) (Rejections, error) {
	var x Rejections
	var first, last int64
	err := row.Scan(&x.Fleet, &x.Type, &x.id, &x.Detail, &x.Count, &x.Proxies, &x.Proxy, &x.First, &x.Last, &first, &last)
	x.FirstRevision, x.LastRevision = uint64(first), uint64(last)
	x.First, x.Last = x.First.UTC(), x.Last.UTC()
	return x, err
}
