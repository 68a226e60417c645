package archive

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// EventsAfter returns up to limit stored events of a tenant with a tenant_seq
// above a number, in order, along the cluster's present history.
func (a *Archive) EventsAfter(ctx context.Context, tenant string, number uint64, limit int) (events []*Event, err error) {
	err = a.along(ctx, func(ctx context.Context, r *reader, spans []span) error {
		for i := len(spans) - 1; i >= 0 && len(events) < limit; i-- {
			after, err := r.bisect(ctx, spans[i], tenant, "tenant_seq", number)
			if err != nil {
				return err
			}
			more, err := r.ascending(ctx, spans[i], tenant, after, limit-len(events))
			if err != nil {
				return err
			}
			events = append(events, more...)
		}
		return nil
	})
	return events, err
}

// OwnEventsAfter returns up to limit stored events of the cluster itself above a
// sequence, and the sequence up to which nothing is missing behind that.
func (a *Archive) OwnEventsAfter(ctx context.Context, seq uint64, limit int) (events []*Event, through uint64, err error) {
	err = a.along(ctx, func(ctx context.Context, r *reader, spans []span) error {
		for i := len(spans) - 1; i >= 0 && len(events) < limit; i-- {
			more, err := r.ascending(ctx, spans[i], "", seq, limit-len(events))
			if err != nil {
				return err
			}
			events = append(events, more...)
		}
		through, err = r.whole(ctx, spans, seq)
		return err
	})
	return events, through, err
}

// NumberAt returns the tenant_seq, for the cluster's own events the seq, of a
// tenant's last stored event of the log entries up to an index; 0 for none.
func (a *Archive) NumberAt(ctx context.Context, tenant string, index uint64) (number uint64, err error) {
	err = a.along(ctx, func(ctx context.Context, r *reader, spans []span) error {
		for _, sp := range spans {
			seq, err := r.bisect(ctx, sp, tenant, "log_index", index)
			if err != nil {
				return err
			}
			if seq < sp.first {
				continue // all of them are later
			}
			if number = seq; tenant != "" {
				_, number, err = r.from(ctx, sp, tenant, "tenant_seq", seq)
			}
			return err
		}
		return nil
	})
	return number, err
}

// along reads along the present history, newest span first.
func (a *Archive) along(ctx context.Context, read func(context.Context, *reader, []span) error) error {
	return a.onPool(ctx, func(ctx context.Context, pool *pgxpool.Pool) error {
		r := &reader{pool: pool, st: a.cluster.State()}
		spans, _, err := r.lineage(ctx, history{r.st.Identity().GetClusterId(), r.st.Identity().GetEpoch()})
		if err != nil {
			return err
		}
		return read(ctx, r, spans)
	})
}

// bisect returns the sequence of a tenant's last event in a span whose column is
// at most a value, one below the span when there is none. The column, tenant_seq or
// log_index, rises with the sequence and has no index of its own.
func (r *reader) bisect(ctx context.Context, sp span, tenant, column string, value uint64) (uint64, error) {
	low, high := sp.first-1, sp.through // at low it holds, above high it does not
	for low < high {
		middle := low + (high-low+1)/2
		seq, got, err := r.from(ctx, sp, tenant, column, middle)
		switch {
		case err != nil:
			return 0, err
		case seq == 0 || got > value:
			high = middle - 1
		default:
			low = seq
		}
	}
	return low, nil
}

// from returns the sequence and a column of a tenant's first event in a span at or
// above a sequence, zeros when there is none.
func (r *reader) from(ctx context.Context, sp span, tenant, column string, at uint64) (seq, value uint64, err error) {
	var s, v int64
	err = r.pool.QueryRow(ctx, `SELECT seq, `+column+` FROM fleet_events
		WHERE cluster = $1 AND epoch = $2 AND tenant = $3 AND seq BETWEEN $4 AND $5 ORDER BY seq LIMIT 1`,
		sp.clusterID, sp.epoch, tenant, int64(at), int64(sp.through)).Scan(&s, &v)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, 0, nil
	}
	return uint64(s), uint64(v), err
}

// ascending returns a span's events of a tenant above a sequence.
func (r *reader) ascending(ctx context.Context, sp span, tenant string, after uint64, limit int) ([]*Event, error) {
	rows, err := r.pool.Query(ctx, `SELECT epoch, seq, tenant_seq, log_index, at, tenant, fleet, kind, by, data FROM fleet_events
		WHERE cluster = $1 AND epoch = $2 AND tenant = $3 AND seq BETWEEN $4 AND $5 ORDER BY seq LIMIT $6`,
		sp.clusterID, sp.epoch, tenant, int64(max(sp.first, after+1)), int64(sp.through), limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanEvent)
}

// whole returns the sequence up to which the spans lack nothing above another one.
func (r *reader) whole(ctx context.Context, spans []span, after uint64) (uint64, error) {
	through := after
	if len(spans) > 0 {
		through = max(after, spans[0].through)
	}
	for _, sp := range spans {
		var first *int64
		err := r.pool.QueryRow(ctx, `SELECT min(from_seq) FROM archive_gaps WHERE cluster = $1 AND epoch = $2 AND to_seq > $3`,
			sp.clusterID, sp.epoch, int64(after)).Scan(&first)
		if err != nil {
			return 0, err
		}
		if first != nil {
			through = min(through, max(after, uint64(*first)-1))
		}
	}
	return through, nil
}
