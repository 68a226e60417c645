package archive

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/org/envoy-control-plane/fsm"
)

// How much time a report covers: as much as is said, or else the default, up
// to now.
const (
	defaultRange = 30 * 24 * time.Hour
	maxRange     = 366 * 24 * time.Hour
	// Of the availability by month.
	defaultMonths = 365 * 24 * time.Hour
	maxMonths     = 5 * 366 * 24 * time.Hour
)

// ReportQuery bounds a report about one tenant.
type ReportQuery struct {
	// Tenant is needed; an empty Fleet stands for all. By and Kind select changes,
	// Interval says how proxies ("day", "month") and metrics ("minute", "hour",
	// "day") are summed.
	Tenant, Fleet, By, Kind, Interval string
	// Name of the metric that is reported, which is needed; Proxy and Labels ("a=1,b=2")
	// select of it, Group ("fleet", "proxy") says whose rows are shown.
	Name, Proxy, Labels, Group string
	// Since is inclusive, Until exclusive; zero: the default range up to now.
	Since, Until time.Time
	// Cursor is what the page before returned as Next.
	Cursor string
	// Limit of rows, 100 when 0, 1000 at most.
	Limit int
}

// Report is one page of a report.
type Report[T any] struct {
	Items []T
	// Next is the cursor of the next page, empty on the last.
	Next string
	// Since and Until are what the report covers.
	Since, Until time.Time
	// AsOf is the log time up to which what happened is counted; zero when
	// nothing is.
	AsOf time.Time
}

// bound completes a query.
func (q *ReportQuery) bound(usual, longest time.Duration) error {
	switch {
	case q.Limit < 0 || q.Limit > maxLimit:
		return fsm.Refusal(fsm.CodeInvalid, "limit: at most %d", maxLimit)
	case q.Limit == 0:
		q.Limit = defaultLimit
	}
	if q.Until.IsZero() {
		q.Until = time.Now()
	}
	if q.Since.IsZero() {
		q.Since = q.Until.Add(-usual)
	}
	q.Since, q.Until = q.Since.UTC(), q.Until.UTC()
	switch length := q.Until.Sub(q.Since); {
	case length <= 0:
		return fsm.Refusal(fsm.CodeInvalid, "since: it must be before until")
	case length > longest:
		return fsm.Refusal(fsm.CodeInvalid, "since: a report covers at most %d days", longest/(24*time.Hour))
	}
	return nil
}

// reading is one report's look at the database, all at one moment.
type reading struct {
	tx    pgx.Tx
	st    *fsm.State
	spans []span
}

// beginReading opens it. Plans are made for the very times that are asked for,
// so that partitions without them are not opened; nobody waits for ever.
const beginReading = `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL statement_timeout = '10s';
SET LOCAL idle_in_transaction_session_timeout = '30s';
SET LOCAL plan_cache_mode = force_custom_plan;
SET LOCAL jit = off;
SET LOCAL max_parallel_workers_per_gather = 0`

// read runs f in one transaction on the read URL, see onPool.
func (a *Archive) read(ctx context.Context, f func(context.Context, *reading) error) error {
	return a.onPool(ctx, func(ctx context.Context, pool *pgxpool.Pool) error {
		return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{BeginQuery: beginReading}, func(tx pgx.Tx) error {
			r := &reading{tx: tx, st: a.cluster.State()}
			var err error
			r.spans, err = readLineage(ctx, tx, history{r.st.Identity().GetClusterId(), r.st.Identity().GetEpoch()}, maxSeq)
			if err != nil {
				return err
			}
			return f(ctx, r)
		})
	})
}

// spanArrays are the spans as parameters.
func (r *reading) spanArrays() (clusters, epochs []string, first, through []int64) {
	for _, sp := range r.spans {
		clusters, epochs = append(clusters, sp.clusterID), append(epochs, sp.epoch)
		first, through = append(first, int64(sp.first)), append(through, int64(sp.through))
	}
	return clusters, epochs, first, through
}

// digested says how far a span's events are digested.
type extent struct {
	position
	first time.Time
}

// extents are those of the spans, in their order.
func (r *reading) extents(ctx context.Context) ([]extent, error) {
	out := make([]extent, len(r.spans))
	for i, sp := range r.spans {
		var seq int64
		err := r.tx.QueryRow(ctx, `SELECT seq, at, first_at FROM archive_digests WHERE cluster = $1 AND epoch = $2`,
			sp.clusterID, sp.epoch).Scan(&seq, &out[i].at, &out[i].first)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return nil, err
		}
		out[i].seq = uint64(seq)
	}
	return out, nil
}

// asOf is the time up to which the digest holds: that of the first event that
// it does not have, now when it has all.
func (r *reading) asOf(extents []extent) time.Time {
	switch {
	case len(extents) == 0:
		return time.Time{}
	case extents[0].seq < r.spans[0].through:
		return extents[0].at.UTC()
	}
	for ev := range r.st.Events(r.spans[0].through) {
		return timeOf(ev.At)
	}
	return time.Now().UTC().Truncate(time.Microsecond)
}

// place is where a page of events ends: the next one is below it.
type place struct {
	Epoch string    `json:"e"`
	At    time.Time `json:"a"`
	Seq   uint64    `json:"s"`
}

// each reads the spans from the newest to the oldest, from a page's cursor on,
// until there is one row more than a page.
func each[T any](r *reading, q *ReportQuery, stored func(sp span, below place, limit int) ([]T, error), placeOf func(T) place) ([]T, string, error) {
	below := place{At: q.Until}
	if err := decodeCursor(q.Cursor, &below); err != nil {
		return nil, "", err
	}
	var items []T
	found := below.Epoch == ""
	for _, sp := range r.spans {
		if sp.epoch == below.Epoch {
			found = true
		} else {
			if !found {
				continue
			}
			below = place{Epoch: below.Epoch, At: q.Until}
		}
		more, err := stored(sp, below, q.Limit+1-len(items))
		if err != nil {
			return nil, "", err
		}
		if items = append(items, more...); len(items) > q.Limit {
			break
		}
	}
	if !found {
		return nil, "", fsm.Refusal(fsm.CodeEpochChanged, "the cursor is of epoch %q, which is no part of this cluster's history", below.Epoch)
	}
	if len(items) <= q.Limit {
		return items, "", nil
	}
	items = items[:q.Limit]
	return items, encodeCursor(placeOf(items[q.Limit-1])), nil
}

func encodeCursor(v any) string {
	text, _ := json.Marshal(v) // strings, numbers and times always marshal
	return base64.RawURLEncoding.EncodeToString(text)
}

// decodeCursor fills in v, and leaves it when there is no cursor.
func decodeCursor(cursor string, v any) error {
	if cursor == "" {
		return nil
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil {
		d := json.NewDecoder(strings.NewReader(string(text)))
		d.DisallowUnknownFields()
		err = d.Decode(v)
	}
	if err != nil {
		return fsm.Refusal(fsm.CodeInvalid, "cursor: not one that a page returned")
	}
	return nil
}
