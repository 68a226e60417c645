package archive

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/org/envoy-control-plane/fsm"
)

// Presence is how many proxies there were of one build, or in one fleet, over a
// day or a month: on average over time, exact to the microsecond.
type Presence struct {
	// From and To bound what of the period is counted.
	From, To time.Time
	// Name of the build or fleet.
	Name                    string
	Connected, Disconnected float64

	period time.Time
}

// Availability is the share of the time of known proxies in which they were
// connected.
func (p Presence) Availability() float64 {
	if p.Connected+p.Disconnected == 0 {
		return 0
	}
	return p.Connected / (p.Connected + p.Disconnected)
}

// sums are days and the stretches that are not over yet, by period and name. %[1]s is
// what names, %[2]s the length of periods, %[3]s selects a fleet.
const sums = `
WITH closed AS (
    SELECT date_trunc('%[2]s', f.day::timestamp) AS period, f.%[1]s AS name, sum(f.connected_us) AS c, sum(f.disconnected_us) AS d
    FROM unnest($1::text[], $2::text[], $3::date[]) AS s (cluster, epoch, before)
    JOIN fleet_days f ON f.cluster = s.cluster AND f.epoch = s.epoch AND f.day < s.before
    WHERE f.tenant = $6 AND f.day >= $7 AND f.day < $8%[3]s
    GROUP BY 1, 2
), stretches AS (
    SELECT f.%[1]s AS name, f.connected, date_trunc('day', began) AS day, count(*) AS n,
        sum(extract(epoch FROM least(date_trunc('day', began) + interval '1 day', $9::timestamp) - began)) AS first
    FROM proxy_status f CROSS JOIN LATERAL (SELECT f.since AT TIME ZONE 'UTC' AS began) b
    WHERE f.cluster = $4 AND f.epoch = $5 AND f.tenant = $6 AND began < $9::timestamp%[3]s
    GROUP BY 1, 2, 3
), open AS (
    SELECT date_trunc('%[2]s', d) AS period, name,
        coalesce(sum(us) FILTER (WHERE connected), 0) AS c, coalesce(sum(us) FILTER (WHERE NOT connected), 0) AS d
    FROM stretches
    CROSS JOIN LATERAL generate_series(day, $9::timestamp - interval '1 microsecond', interval '1 day') AS d
    CROSS JOIN LATERAL (SELECT 1000000 * CASE WHEN d = day THEN first
        ELSE n * extract(epoch FROM least(d + interval '1 day', $9::timestamp) - d) END AS us) u
    WHERE d >= $7::date AND d < $8::date
    GROUP BY 1, 2
)
SELECT period, name, sum(c)::bigint, sum(d)::bigint FROM (SELECT * FROM closed UNION ALL SELECT * FROM open) both_of
WHERE $10::timestamp IS NULL OR period < $10 OR period = $10 AND name > $11
GROUP BY 1, 2 ORDER BY 1 DESC, 2 LIMIT $12`

// Proxies reports how many proxies there were by build, connected and not, over
// time, newest first.
func (a *Archive) Proxies(ctx context.Context, q ReportQuery) (*Report[Presence], error) {
	switch q.Interval {
	case "":
		q.Interval = "day"
	case "day", "month":
	default:
		return nil, fsm.Refusal(fsm.CodeInvalid, "interval: it is day or month")
	}
	if err := q.bound(defaultRange, maxRange); err != nil {
		return nil, err
	}
	return a.presence(ctx, q, "build")
}

// Availability reports the presence of proxies by fleet and month.
func (a *Archive) Availability(ctx context.Context, q ReportQuery) (*Report[Presence], error) {
	q.Interval = "month"
	if err := q.bound(defaultMonths, maxMonths); err != nil {
		return nil, err
	}
	return a.presence(ctx, q, "fleet")
}

// period is where a page of presences ends.
type period struct {
	From *time.Time `json:"f"`
	Name string     `json:"n"`
}

// presence covers whole days.
func (a *Archive) presence(ctx context.Context, q ReportQuery, name string) (*Report[Presence], error) {
	q.Since = dayOf(q.Since)
	if day := dayOf(q.Until); day.Before(q.Until) {
		q.Until = day.AddDate(0, 0, 1)
	}
	var last period
	if err := decodeCursor(q.Cursor, &last); err != nil {
		return nil, err
	}
	out := &Report[Presence]{Since: q.Since, Until: q.Until}
	err := a.read(ctx, func(ctx context.Context, r *reading) error {
		extents, err := r.extents(ctx)
		if err != nil || len(extents) == 0 {
			return err
		}
		out.AsOf = r.asOf(extents)
		sql, args := q.presence(r, extents, name, out.AsOf, last)
		rows, err := r.tx.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		from, to := q.Since, q.Until
		if first := extents[len(extents)-1].first; from.Before(first) {
			from = first.UTC()
		}
		if out.AsOf.Before(to) {
			to = out.AsOf
		}
		out.Items, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Presence, error) {
			return scanPresence(row, q.Interval, from, to)
		})
		return err
	})
	if len(out.Items) > q.Limit {
		out.Items = out.Items[:q.Limit]
		end := out.Items[q.Limit-1]
		out.Next = encodeCursor(period{&end.period, end.Name})
	}
	return out, err
}

func (q *ReportQuery) presence(r *reading, extents []extent, name string, asOf time.Time, last period) (string, []any) {
	var clusters, epochs []string
	var before []time.Time
	for i, sp := range r.spans {
		// Of a history that has gone on after this one branched off, the day of
		// the branch is not counted: its days are not cut in two.
		end := q.Until
		if i > 0 && extents[i].seq > sp.through {
			end = dayOf(extents[i-1].first)
		}
		clusters, epochs, before = append(clusters, sp.clusterID), append(epochs, sp.epoch), append(before, end)
	}
	args := []any{
		clusters, epochs, before, r.spans[0].clusterID, r.spans[0].epoch,
		q.Tenant, q.Since, q.Until, asOf.UTC(), last.From, last.Name, q.Limit + 1,
	}
	fleet := ""
	if q.Fleet != "" {
		args = append(args, q.Fleet)
		fleet = fmt.Sprintf(" AND f.fleet = $%d", len(args))
	}
	return strings.TrimSpace(fmt.Sprintf(sums, name, q.Interval, fleet)), args
}

// scanPresence turns sums over a period, of which a part is counted, into averages.
func scanPresence(row pgx.CollectableRow, interval string, from, to time.Time) (Presence, error) {
	var p Presence
	var connected, disconnected int64
	if err := row.Scan(&p.period, &p.Name, &connected, &disconnected); err != nil {
		return p, err
	}
	p.From, p.To = p.period, p.period.AddDate(0, 0, 1)
	if interval == "month" {
		p.To = p.period.AddDate(0, 1, 0)
	}
	if p.From.Before(from) {
		p.From = from
	}
	if to.Before(p.To) {
		p.To = to
	}
	if length := p.To.Sub(p.From).Microseconds(); length > 0 {
		p.Connected, p.Disconnected = float64(connected)/float64(length), float64(disconnected)/float64(length)
	}
	return p, nil
}
