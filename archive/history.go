package archive

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// HistoryQuery selects events of one tenant, newest first. Empty fields select
// everything.
type HistoryQuery struct {
	// Tenant whose events are asked for; "" are the cluster's own.
	Tenant          string
	Fleet, Kind, By string
	// Since is inclusive, Until exclusive.
	Since, Until time.Time
	// Cursor is what the page before returned as next.
	Cursor string
	// Limit of events, 100 when 0, 1000 at most.
	Limit int
}

// Event is one event of the past.
type Event struct {
	Epoch                 string
	Seq, TenantSeq, Index uint64
	At                    time.Time
	Tenant, Fleet         string
	Kind, By              string
	Data                  json.RawMessage
}

const (
	defaultLimit = 100
	maxLimit     = 1000
)

// span is the part of an epoch that belongs to the present history: an epoch
// that another one branched off counts up to there.
type span struct {
	history
	first, through uint64
}

// History returns a page of events and, when there are more, the cursor for
// the next one. What Postgres does not have yet comes from memory, so that a
// change is in the history as soon as this node has applied it. It follows the
// cluster's present history back through the epochs that it went on from.
func (a *Archive) History(ctx context.Context, q HistoryQuery) ([]*Event, string, error) {
	switch {
	case q.Limit < 0 || q.Limit > maxLimit:
		return nil, "", fsm.Refusal(fsm.CodeInvalid, "limit: at most %d", maxLimit)
	case q.Limit == 0:
		q.Limit = defaultLimit
	}
	var events []*Event
	var next string
	err := a.onPool(ctx, func(ctx context.Context, pool *pgxpool.Pool) (err error) {
		r := &reader{query: q, pool: pool, st: a.cluster.State()}
		events, next, err = r.page(ctx)
		return err
	})
	return events, next, err
}

// onPool runs f with the connections of the read URL, in the time that it has.
// An error that is no refusal becomes one that says that the database does not
// answer.
func (a *Archive) onPool(ctx context.Context, f func(context.Context, *pgxpool.Pool) error) error {
	a.mu.Lock()
	pool := a.pool
	a.mu.Unlock()
	if pool == nil {
		return fsm.Refusal(fsm.CodeUnavailable, "the archive has not started")
	}
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Timeout)
	defer cancel()
	err := f(ctx, pool)
	if err != nil && fsm.CodeOf(err) == "" {
		return fmt.Errorf("%w: %w", fsm.Refusal(fsm.CodeUnavailable, "the archive's database does not answer"), err)
	}
	return err
}

// reader reads one page.
type reader struct {
	query HistoryQuery
	pool  *pgxpool.Pool
	st    *fsm.State
}

func (r *reader) page(ctx context.Context) ([]*Event, string, error) {
	epoch, before, err := parseCursor(r.query.Cursor)
	if err != nil {
		return nil, "", err
	}
	here := history{r.st.Identity().GetClusterId(), r.st.Identity().GetEpoch()}
	if epoch == "" {
		epoch = here.epoch
	}
	spans, stored, err := r.lineage(ctx, here)
	if err != nil {
		return nil, "", err
	}
	var events []*Event
	found := false
	if epoch == here.epoch {
		found = true
		if events, err = r.pending(before, stored); err != nil {
			return nil, "", err
		}
	}
	for _, sp := range spans {
		if sp.epoch == epoch {
			found = true
		}
		if !found || len(events) > r.query.Limit {
			continue
		}
		if sp.epoch != epoch {
			before = math.MaxInt64
		}
		more, err := r.stored(ctx, sp, before, r.query.Limit+1-len(events))
		if err != nil {
			return nil, "", err
		}
		events = append(events, more...)
	}
	if !found {
		return nil, "", fsm.Refusal(fsm.CodeEpochChanged, "the cursor is of epoch %q, which is no part of this cluster's history", epoch)
	}
	if len(events) <= r.query.Limit {
		return events, "", nil
	}
	events = events[:r.query.Limit]
	last := events[len(events)-1]
	return events, formatCursor(last.Epoch, last.Seq), nil
}

const lineage = `
WITH RECURSIVE l AS (
    SELECT cluster, epoch, parent_cluster, parent_epoch, first_seq, $3::bigint AS through, 1 AS depth
    FROM archive_epochs WHERE cluster = $1 AND epoch = $2
  UNION ALL
    SELECT p.cluster, p.epoch, p.parent_cluster, p.parent_epoch, p.first_seq, l.first_seq - 1, l.depth + 1
    FROM l JOIN archive_epochs p ON p.cluster = l.parent_cluster AND p.epoch = l.parent_epoch
    WHERE l.depth < 1000)
SELECT l.cluster, l.epoch, l.first_seq, least(l.through, c.seq)
FROM l JOIN archive_cursor c USING (cluster, epoch) ORDER BY l.depth`

// lineage returns the spans of the present history, newest first, and how far
// the present epoch is stored.
func (r *reader) lineage(ctx context.Context, here history) (spans []span, stored uint64, err error) {
	spans, err = readLineage(ctx, r.pool, here, math.MaxInt64)
	if len(spans) > 0 {
		stored = spans[0].through
	}
	return spans, stored, err
}

// querier is a connection, a transaction or a pool of them.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// readLineage returns the spans of a history through a sequence, newest first.
func readLineage(ctx context.Context, q querier, here history, through uint64) (spans []span, err error) {
	rows, err := q.Query(ctx, lineage, here.clusterID, here.epoch, int64(through))
	if err != nil {
		return nil, err
	}
	var sp span
	var first, last int64
	_, err = pgx.ForEachRow(rows, []any{&sp.clusterID, &sp.epoch, &first, &last}, func() error {
		sp.first, sp.through = uint64(first), uint64(last)
		spans = append(spans, sp)
		return nil
	})
	return spans, err
}

// pending are the newest matching events that only the memory has, newest
// first, one more than a page at most.
func (r *reader) pending(before, stored uint64) ([]*Event, error) {
	var found []*fsmpb.Event
	for ev := range r.st.Events(stored) {
		if ev.Seq >= before {
			break
		}
		if r.query.matches(ev) {
			found = append(found, ev)
		}
	}
	var out []*Event
	for _, ev := range slices.Backward(found) {
		if len(out) > r.query.Limit {
			break
		}
		data, err := fsm.EventData(ev)
		if err != nil {
			return nil, err
		}
		out = append(out, &Event{
			Epoch: r.st.Identity().GetEpoch(), Seq: ev.Seq, TenantSeq: ev.TenantSeq, Index: ev.Index, At: timeOf(ev.At),
			Tenant: ev.Tenant, Fleet: ev.Fleet, Kind: fsm.EventKind(ev), By: ev.By, Data: data,
		})
	}
	return out, nil
}

func (q *HistoryQuery) matches(ev *fsmpb.Event) bool {
	at := timeOf(ev.At)
	return ev.Tenant == q.Tenant &&
		(q.Fleet == "" || q.Fleet == ev.Fleet) &&
		(q.Kind == "" || q.Kind == fsm.EventKind(ev)) &&
		(q.By == "" || q.By == ev.By) &&
		(q.Since.IsZero() || !at.Before(q.Since)) &&
		(q.Until.IsZero() || at.Before(q.Until))
}

// stored returns a span's matching events below a sequence, newest first.
func (r *reader) stored(ctx context.Context, sp span, before uint64, limit int) ([]*Event, error) {
	args := []any{sp.clusterID, sp.epoch, r.query.Tenant, int64(sp.first), int64(min(sp.through, before-1)), limit}
	sql := `SELECT epoch, seq, tenant_seq, log_index, at, tenant, fleet, kind, by, data FROM fleet_events
		WHERE cluster = $1 AND epoch = $2 AND tenant = $3 AND seq BETWEEN $4 AND $5`
	where := func(condition string, value any) {
		args = append(args, value)
		sql += " AND " + condition + " $" + strconv.Itoa(len(args))
	}
	for _, f := range []struct{ column, value string }{{"fleet", r.query.Fleet}, {"kind", r.query.Kind}, {"by", r.query.By}} {
		if f.value != "" {
			where(f.column+" =", f.value)
		}
	}
	if !r.query.Since.IsZero() {
		where("at >=", r.query.Since)
	}
	if !r.query.Until.IsZero() {
		where("at <", r.query.Until)
	}
	rows, err := r.pool.Query(ctx, sql+" ORDER BY seq DESC LIMIT $6", args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanEvent)
}

func scanEvent(row pgx.CollectableRow) (*Event, error) {
	var ev Event
	var seq, tenantSeq, index int64
	err := row.Scan(&ev.Epoch, &seq, &tenantSeq, &index, &ev.At, &ev.Tenant, &ev.Fleet, &ev.Kind, &ev.By, &ev.Data)
	ev.Seq, ev.TenantSeq, ev.Index, ev.At = uint64(seq), uint64(tenantSeq), uint64(index), ev.At.UTC()
	return &ev, err
}

var errCursor = errors.New("malformed")

func formatCursor(epoch string, seq uint64) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d@%s", seq, epoch))
}

// parseCursor returns the epoch to go on in and the sequence to stay below.
func parseCursor(cursor string) (epoch string, before uint64, err error) {
	if cursor == "" {
		return "", math.MaxInt64, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil {
		number, rest, ok := strings.Cut(string(text), "@")
		epoch = rest
		before, err = strconv.ParseUint(number, 10, 63)
		if !ok || epoch == "" || before == 0 {
			err = errCursor
		}
	}
	if err != nil {
		return "", 0, fsm.Refusal(fsm.CodeInvalid, "cursor: not one that a page returned")
	}
	return epoch, before, nil
}
