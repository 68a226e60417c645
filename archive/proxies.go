package archive

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Rows of envoy_proxies are not replayed from events but copied from the
// state, which is at the batch's last event or past it. A change that the
// copy already has comes again with its own event, and changes nothing.

// proxiesAtOnce bounds one statement.
const proxiesAtOnce = 1000

type proxyRow struct {
	Tenant     string            `json:"tenant"`
	ID         string            `json:"id"`
	Fleet      string            `json:"fleet"`
	Status     string            `json:"status"`
	Streams    int               `json:"streams"`
	Rejections []rejectionRow    `json:"rejections"`
	Build      string            `json:"build"`
	Region     string            `json:"region"`
	Zone       string            `json:"zone"`
	SubZone    string            `json:"sub_zone"`
	Labels     map[string]string `json:"labels"`
	FirstSeen  time.Time         `json:"first_seen"`
	ChangedAt  time.Time         `json:"changed_at"`
}

type rejectionRow struct {
	Type     string    `json:"type"`
	Version  string    `json:"version"`
	Detail   string    `json:"detail"`
	Revision uint64    `json:"revision"`
	At       time.Time `json:"at"`
}

func newProxyRow(p *fsmpb.Proxy) proxyRow {
	row := proxyRow{
		Tenant: p.Tenant, ID: p.Id, Fleet: p.Fleet, Status: "disconnected", Streams: len(p.Streams),
		Rejections: []rejectionRow{}, Build: p.Build,
		Region: p.GetLocality().GetRegion(), Zone: p.GetLocality().GetZone(), SubZone: p.GetLocality().GetSubZone(),
		Labels: map[string]string{}, FirstSeen: timeOf(p.FirstSeen), ChangedAt: timeOf(p.ChangedAt),
	}
	if len(p.Streams) > 0 {
		row.Status = "connected"
	}
	for name, value := range p.Labels {
		row.Labels[name] = value
	}
	for _, r := range p.Rejections {
		row.Rejections = append(row.Rejections, rejectionRow{
			Type: fsm.ShortType(r.TypeUrl), Version: r.Version, Detail: r.Detail, Revision: r.Revision, At: timeOf(r.At),
		})
	}
	return row
}

type proxyKey struct{ tenant, id string }

// putProxies brings the rows of the proxies that a batch names up to date.
func (s *session) putProxies(ctx context.Context, tx pgx.Tx, b *batch) error {
	named := map[proxyKey]bool{}
	var rows []proxyRow
	var gone []proxyKey
	for _, ev := range b.events {
		id, ok := proxyOf(ev)
		if k := (proxyKey{ev.Tenant, id}); ok && !named[k] {
			named[k] = true
			if p, ok := b.st.Proxy(k.tenant, k.id); ok {
				rows = append(rows, newProxyRow(p))
			} else {
				gone = append(gone, k)
			}
		}
	}
	for _, k := range gone {
		_, err := tx.Exec(ctx, `DELETE FROM envoy_proxies WHERE cluster = $1 AND epoch = $2 AND tenant = $3 AND id = $4`,
			s.clusterID, s.epoch, clean(k.tenant), clean(k.id))
		if err != nil {
			return fmt.Errorf("delete a proxy: %w", err)
		}
	}
	return s.upsertProxies(ctx, tx, b.st, rows)
}

// syncProxies makes the rows those of the state, all of them.
func (s *session) syncProxies(ctx context.Context, tx pgx.Tx, st *fsm.State) error {
	_, err := tx.Exec(ctx, `DELETE FROM envoy_proxies WHERE cluster = $1 AND epoch = $2`, s.clusterID, s.epoch)
	if err != nil {
		return fmt.Errorf("delete proxies: %w", err)
	}
	var rows []proxyRow
	for p := range st.AllProxies() {
		rows = append(rows, newProxyRow(p))
		if len(rows) == proxiesAtOnce {
			if err := s.upsertStorable(ctx, tx, st, rows); err != nil {
				return err
			}
			rows = rows[:0]
		}
	}
	return s.upsertStorable(ctx, tx, st, rows)
}

// upsertStorable leaves out the proxies that Postgres refuses: there is no
// event to set aside for them, and one must not hold up all others.
func (s *session) upsertStorable(ctx context.Context, tx pgx.Tx, st *fsm.State, rows []proxyRow) error {
	stored, err := attempt(ctx, tx, func(tx pgx.Tx) error { return s.upsertProxies(ctx, tx, st, rows) })
	switch n := len(rows); {
	case err != nil || stored:
		return err
	case n == 1:
		s.log.Error("archive: Postgres refuses a proxy", "tenant", rows[0].Tenant, "proxy", rows[0].ID)
		return nil
	default:
		if err := s.upsertStorable(ctx, tx, st, rows[:n/2]); err != nil {
			return err
		}
		return s.upsertStorable(ctx, tx, st, rows[n/2:])
	}
}

const upsertProxies = `
INSERT INTO envoy_proxies (cluster, epoch, seq, tenant, id, fleet, status, streams, rejections,
    build, region, zone, sub_zone, labels, first_seen, changed_at)
SELECT $1, $2, $3, p.* FROM jsonb_to_recordset($4) AS p (
    tenant text, id text, fleet text, status text, streams int, rejections jsonb,
    build text, region text, zone text, sub_zone text, labels jsonb, first_seen timestamptz, changed_at timestamptz)
ON CONFLICT (cluster, epoch, tenant, id) DO UPDATE SET
    seq = excluded.seq, fleet = excluded.fleet, status = excluded.status, streams = excluded.streams,
    rejections = excluded.rejections, build = excluded.build, region = excluded.region, zone = excluded.zone,
    sub_zone = excluded.sub_zone, labels = excluded.labels, first_seen = excluded.first_seen, changed_at = excluded.changed_at
WHERE envoy_proxies.seq <= excluded.seq`

func (s *session) upsertProxies(ctx context.Context, tx pgx.Tx, st *fsm.State, rows []proxyRow) error {
	for len(rows) > 0 {
		some := rows[:min(len(rows), proxiesAtOnce)]
		rows = rows[len(some):]
		text, err := json.Marshal(some)
		if err != nil {
			return fmt.Errorf("store proxies: %w", err)
		}
		_, err = tx.Exec(ctx, upsertProxies, s.clusterID, s.epoch, int64(st.Seq()), cleanJSON(text))
		if err != nil {
			return fmt.Errorf("store proxies: %w", err)
		}
	}
	return nil
}

// proxyOf names the proxy that an event is about.
func proxyOf(ev *fsmpb.Event) (string, bool) {
	switch d := ev.Data.(type) {
	case *fsmpb.Event_ProxyConnected:
		return d.ProxyConnected.GetProxy(), true
	case *fsmpb.Event_ProxyDisconnected:
		return d.ProxyDisconnected.GetProxy(), true
	case *fsmpb.Event_ProxyRejected:
		return d.ProxyRejected.GetProxy(), true
	case *fsmpb.Event_ProxyRecovered:
		return d.ProxyRecovered.GetProxy(), true
	case *fsmpb.Event_ProxyDeleted:
		return d.ProxyDeleted.GetProxy(), true
	case *fsmpb.Event_ProxyCollapsed:
		return d.ProxyCollapsed.GetProxy(), true
	}
	return "", false
}
