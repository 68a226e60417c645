package archive

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// status is how a proxy is, since when.
type status struct {
	fleet, build string
	connected    bool
	since        time.Time
}

// ledger sums what the proxies of a page go through on one day.
type ledger struct {
	proxies map[proxyKey]*status // nil: deleted, or never known
	changed map[proxyKey]bool
	spent   map[spender]*spent
}

type spender struct{ tenant, fleet, build string }

type spent struct{ connected, disconnected time.Duration }

// set brings a proxy to another status, nil to delete it, and sums the time
// that it spent in the one before.
func (l *ledger) set(k proxyKey, next *status, at time.Time) {
	was := l.proxies[k]
	if was != nil && next != nil && was.fleet == next.fleet && was.build == next.build && was.connected == next.connected {
		return
	}
	if was != nil {
		by := spender{k.tenant, was.fleet, was.build}
		if l.spent[by] == nil {
			l.spent[by] = &spent{}
		}
		if was.connected {
			l.spent[by].connected += at.Sub(was.since)
		} else {
			l.spent[by].disconnected += at.Sub(was.since)
		}
	}
	if next != nil {
		next.since = at
	}
	l.proxies[k], l.changed[k] = next, was != nil || next != nil
}

// apply follows one event.
func (l *ledger) apply(ev *digested) {
	k := proxyKey{ev.tenant, ev.data.Proxy}
	next := &status{fleet: ev.fleet}
	if was := l.proxies[k]; was != nil {
		*next = *was
	}
	switch ev.kind {
	case "proxy_connected":
		next.fleet, next.build, next.connected = ev.fleet, ev.data.Build, true
	case "proxy_disconnected":
		next.connected = ev.data.StreamsLeft > 0
	case "proxy_collapsed":
		next.fleet, next.connected = ev.fleet, ev.data.Connected
		if ev.data.Deleted {
			next = nil
		}
	case "proxy_deleted":
		next = nil
	default:
		return
	}
	l.set(k, next, ev.at)
}

// take digests events that are all of one day.
func (d *digest) take(ctx context.Context, pos position, events []*digested) error {
	day := dayOf(events[0].at)
	if m := monthOf(day); !m.Equal(d.digestMonth.Time) {
		// There already, but for months from before the tables.
		for _, table := range []string{"proxy_rejections", "revision_convergence"} {
			if err := makePartition(ctx, d.tx, table, m); err != nil {
				return fmt.Errorf("make %s: %w", m.partition(table), err)
			}
		}
		d.digestMonth = m
	}
	if dayOf(pos.at).Before(day) {
		if err := d.turnDay(ctx, day); err != nil {
			return err
		}
	}
	var keys []proxyKey
	var rejections [][]any
	for _, ev := range events {
		switch ev.kind {
		case "proxy_rejected":
			rejections = append(rejections, d.rejection(ev))
		case "convergence_recorded":
			if err := d.converge(ctx, ev); err != nil {
				return err
			}
		default:
			keys = append(keys, proxyKey{ev.tenant, ev.data.Proxy})
		}
	}
	if _, err := d.tx.CopyFrom(ctx, pgx.Identifier{"proxy_rejections"}, rejectionColumns, pgx.CopyFromRows(rejections)); err != nil {
		return fmt.Errorf("copy rejections: %w", err)
	}
	l, err := d.open(ctx, keys)
	if err != nil {
		return err
	}
	for _, ev := range events {
		l.apply(ev)
	}
	return d.close(ctx, l, day)
}

var rejectionColumns = []string{
	"cluster", "epoch", "seq", "at", "tenant", "fleet", "proxy", "revision", "type", "detail_id", "detail",
}

func (d *digest) rejection(ev *digested) []any {
	r := ev.data.Rejection
	sum := sha256.Sum256([]byte(r.Detail))
	return []any{
		d.span.clusterID, d.span.epoch, int64(ev.seq), ev.at, ev.tenant, ev.fleet, ev.data.Proxy, int64(r.Revision),
		r.Type, int64(binary.BigEndian.Uint64(sum[:])), r.Detail,
	}
}

// open reads the proxies that a page is about.
func (d *digest) open(ctx context.Context, keys []proxyKey) (*ledger, error) {
	l := &ledger{proxies: map[proxyKey]*status{}, changed: map[proxyKey]bool{}, spent: map[spender]*spent{}}
	tenants, ids := columns(keys)
	rows, err := d.tx.Query(ctx, `SELECT DISTINCT s.tenant, s.proxy, fleet, build, connected, since
		FROM unnest($3::text[], $4::text[]) AS k (tenant, proxy) JOIN proxy_status s
		ON s.cluster = $1 AND s.epoch = $2 AND s.tenant = k.tenant AND s.proxy = k.proxy`,
		d.span.clusterID, d.span.epoch, tenants, ids)
	if err != nil {
		return nil, err
	}
	var k proxyKey
	var s status
	_, err = pgx.ForEachRow(rows, []any{&k.tenant, &k.id, &s.fleet, &s.build, &s.connected, &s.since}, func() error {
		one := s
		l.proxies[k] = &one
		return nil
	})
	return l, err
}

func columns(keys []proxyKey) (tenants, ids []string) {
	for _, k := range keys {
		tenants, ids = append(tenants, k.tenant), append(ids, k.id)
	}
	return tenants, ids
}

// close stores what has changed.
func (d *digest) close(ctx context.Context, l *ledger, day time.Time) error {
	var gone, kept []proxyKey
	var fleets, builds []string
	var connected []bool
	var since []time.Time
	for k := range l.changed {
		s := l.proxies[k]
		if s == nil {
			gone = append(gone, k)
			continue
		}
		kept = append(kept, k)
		fleets, builds = append(fleets, s.fleet), append(builds, s.build)
		connected, since = append(connected, s.connected), append(since, s.since)
	}
	tenants, ids := columns(gone)
	_, err := d.tx.Exec(ctx, `DELETE FROM proxy_status s USING unnest($3::text[], $4::text[]) AS k (tenant, proxy)
		WHERE s.cluster = $1 AND s.epoch = $2 AND s.tenant = k.tenant AND s.proxy = k.proxy`,
		d.span.clusterID, d.span.epoch, tenants, ids)
	if err != nil {
		return fmt.Errorf("delete proxies: %w", err)
	}
	tenants, ids = columns(kept)
	_, err = d.tx.Exec(ctx, `INSERT INTO proxy_status (cluster, epoch, tenant, proxy, fleet, build, connected, since)
		SELECT $1, $2, * FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::bool[], $8::timestamptz[])
		ON CONFLICT (cluster, epoch, tenant, proxy) DO UPDATE SET
			fleet = excluded.fleet, build = excluded.build, connected = excluded.connected, since = excluded.since`,
		d.span.clusterID, d.span.epoch, tenants, ids, fleets, builds, connected, since)
	if err != nil {
		return fmt.Errorf("store proxies: %w", err)
	}
	return d.spend(ctx, l, day)
}

func (d *digest) spend(ctx context.Context, l *ledger, day time.Time) error {
	var tenants, fleets, builds []string
	var connected, disconnected []int64
	for by, s := range l.spent {
		tenants, fleets, builds = append(tenants, by.tenant), append(fleets, by.fleet), append(builds, by.build)
		connected, disconnected = append(connected, s.connected.Microseconds()), append(disconnected, s.disconnected.Microseconds())
	}
	_, err := d.tx.Exec(ctx, `INSERT INTO fleet_days AS f (cluster, epoch, tenant, day, fleet, build, connected_us, disconnected_us)
		SELECT $1, $2, t.tenant, $3, t.fleet, t.build, t.c, t.d
		FROM unnest($4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[]) AS t (tenant, fleet, build, c, d)
		ON CONFLICT (cluster, epoch, tenant, day, fleet, build) DO UPDATE SET
			connected_us = f.connected_us + excluded.connected_us, disconnected_us = f.disconnected_us + excluded.disconnected_us`,
		d.span.clusterID, d.span.epoch, day, tenants, fleets, builds, connected, disconnected)
	if err != nil {
		return fmt.Errorf("store days: %w", err)
	}
	return nil
}

const turnDay = `
INSERT INTO fleet_days AS f (cluster, epoch, tenant, day, fleet, build, connected_us, disconnected_us)
SELECT $1, $2, tenant, day::date, fleet, build,
    coalesce(sum(us) FILTER (WHERE connected), 0), coalesce(sum(us) FILTER (WHERE NOT connected), 0)
FROM proxy_status
CROSS JOIN LATERAL (SELECT since AT TIME ZONE 'UTC' AS began) b
CROSS JOIN LATERAL generate_series(date_trunc('day', began), $3::date - interval '1 day', interval '1 day') AS day
CROSS JOIN LATERAL (SELECT (extract(epoch FROM day + interval '1 day' - greatest(day, began)) * 1000000)::bigint AS us) u
WHERE cluster = $1 AND epoch = $2 AND began < $3::date
GROUP BY tenant, day, fleet, build
ON CONFLICT (cluster, epoch, tenant, day, fleet, build) DO UPDATE SET
    connected_us = f.connected_us + excluded.connected_us, disconnected_us = f.disconnected_us + excluded.disconnected_us`

// turnDay counts what proxies have spent before a day. Invariant: after it none
// is as it is since before that day, so that days that are over are whole.
func (d *digest) turnDay(ctx context.Context, day time.Time) error {
	if _, err := d.tx.Exec(ctx, turnDay, d.span.clusterID, d.span.epoch, day); err != nil {
		return fmt.Errorf("close the days before %s: %w", day.Format(time.DateOnly), err)
	}
	_, err := d.tx.Exec(ctx, `UPDATE proxy_status SET since = $3 WHERE cluster = $1 AND epoch = $2 AND since < $3`,
		d.span.clusterID, d.span.epoch, day)
	return err
}

// resync makes the proxies those that the archive has now, when events are
// missing: what differs is taken to have changed at a time.
func (d *digest) resync(ctx context.Context, at time.Time) error {
	rows, err := d.tx.Query(ctx, `
		SELECT coalesce(s.tenant, p.tenant), coalesce(s.proxy, p.id), p.fleet, p.build, p.status = 'connected'
		FROM (SELECT * FROM proxy_status WHERE cluster = $1 AND epoch = $2) s
		FULL JOIN (SELECT * FROM envoy_proxies WHERE cluster = $1 AND epoch = $2) p ON s.tenant = p.tenant AND s.proxy = p.id
		WHERE (s.fleet, s.build, s.connected) IS DISTINCT FROM (p.fleet, p.build, p.status = 'connected')`,
		d.span.clusterID, d.span.epoch)
	if err != nil {
		return err
	}
	next := map[proxyKey]*status{}
	var keys []proxyKey
	var k proxyKey
	var fleet, build *string
	var connected *bool
	_, err = pgx.ForEachRow(rows, []any{&k.tenant, &k.id, &fleet, &build, &connected}, func() error {
		keys, next[k] = append(keys, k), nil
		if fleet != nil {
			next[k] = &status{fleet: *fleet, build: *build, connected: *connected}
		}
		return nil
	})
	if err != nil {
		return err
	}
	l, err := d.open(ctx, keys)
	if err != nil {
		return err
	}
	for _, k := range keys {
		l.set(k, next[k], at)
	}
	return d.close(ctx, l, dayOf(at))
}
