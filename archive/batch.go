package archive

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// batch is what one transaction stores: the events above from through to,
// after a gap through gapTo when that is not 0.
type batch struct {
	st       *fsm.State
	from, to uint64
	gapTo    uint64
	events   []*fsmpb.Event
	// full is set when the bounds have cut it.
	full bool
}

func (b *batch) empty() bool { return b.to == b.from }

// collect takes the next events from the outbox. Invariant: they are
// contiguous; what is missing before the first one is the gap.
func (s *session) collect(st *fsm.State) *batch {
	b := &batch{st: st, from: s.cursor, to: s.cursor}
	size := 0
	for ev := range st.Events(s.cursor) {
		if len(b.events) == 0 && ev.Seq > b.to+1 {
			b.gapTo, b.to = ev.Seq-1, ev.Seq-1
		}
		if ev.Seq != b.to+1 || len(b.events) >= s.cfg.BatchEvents || size >= s.cfg.BatchBytes {
			b.full = true
			return b
		}
		b.events = append(b.events, ev)
		b.to = ev.Seq
		size += fsm.EventSize(ev)
	}
	if len(b.events) == 0 && st.Seq() > b.to {
		b.gapTo, b.to = st.Seq(), st.Seq()
	}
	return b
}

// write stores a batch and moves the cursor, both or neither. After an error
// it is open which, and only the cursor in Postgres tells.
func (s *session) write(ctx context.Context, b *batch) error {
	started := time.Now()
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		if err := s.at(stepCursor); err != nil {
			return err
		}
		if err := s.moveCursor(ctx, tx, b); err != nil {
			return err
		}
		if err := s.at(stepRows); err != nil {
			return err
		}
		if err := s.copyBatch(ctx, tx, b); err != nil {
			return err
		}
		return s.at(stepCommit)
	})
	if err != nil {
		return fmt.Errorf("store events %d to %d: %w", b.from+1, b.to, err)
	}
	s.cursor, s.checked = b.to, time.Now()
	s.metrics.batches.Inc()
	s.metrics.events.Add(float64(len(b.events)))
	s.metrics.seconds.Observe(time.Since(started).Seconds())
	return nil
}

// moveCursor is the compare-and-set on which all depends: only the holder of
// the newest term moves it, and only from where it knows it to be.
func (s *session) moveCursor(ctx context.Context, tx pgx.Tx, b *batch) error {
	tag, err := tx.Exec(ctx, `UPDATE archive_cursor SET seq = $5, node = $6, updated_at = now()
		WHERE cluster = $1 AND epoch = $2 AND seq = $3 AND term = $4`,
		s.clusterID, s.epoch, int64(b.from), int64(s.term), int64(b.to), s.cfg.Node)
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 1 {
		return nil
	}
	seq, term, err := s.lockCursor(ctx, tx)
	if err != nil {
		return err
	}
	if term != int64(s.term) {
		return s.superseded(term)
	}
	return fmt.Errorf("the cursor is at %d", seq)
}

func (s *session) copyBatch(ctx context.Context, tx pgx.Tx, b *batch) error {
	if b.gapTo != 0 {
		if err := s.noteGap(ctx, tx, b); err != nil {
			return err
		}
	}
	r := s.rows(b.events)
	for _, t := range []struct {
		name    string
		columns []string
		rows    []row
	}{
		{"fleet_events", eventColumns, r.events},
		{"fleet_revisions", revisionColumns, r.revisions},
		{"fleet_revision_resources", resourceColumns, r.resources},
		{"endpoint_changes", endpointColumns, r.endpoints},
	} {
		if len(t.rows) == 0 {
			continue
		}
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{t.name}, t.columns, copying(t.rows)); err != nil {
			return fmt.Errorf("copy to %s: %w", t.name, err)
		}
	}
	if b.gapTo != 0 {
		return s.syncProxies(ctx, tx, b.st)
	}
	return s.putProxies(ctx, tx, b)
}

func copying(rows []row) pgx.CopyFromSource {
	return pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) { return rows[i](), nil })
}

// noteGap records events that no one can store any more.
func (s *session) noteGap(ctx context.Context, tx pgx.Tx, b *batch) error {
	s.log.Error("archive: events were gone before they could be stored",
		"from_seq", b.from+1, "to_seq", b.gapTo, "epoch", s.epoch)
	s.metrics.gaps.Add(float64(b.gapTo - b.from))
	_, err := tx.Exec(ctx, `INSERT INTO archive_gaps (cluster, epoch, from_seq, to_seq, node)
		VALUES ($1, $2, $3, $4, $5)`, s.clusterID, s.epoch, int64(b.from+1), int64(b.gapTo), s.cfg.Node)
	return err
}

// unstorable reports whether Postgres refused the data itself: it is invalid
// (class 22) or too deeply nested (class 54) for its types.
func unstorable(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (strings.HasPrefix(pg.Code, "22") || strings.HasPrefix(pg.Code, "54"))
}
