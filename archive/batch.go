package archive

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

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

// halves splits a batch of more than one thing.
func (b *batch) halves() (first, second *batch) {
	n := len(b.events) / 2
	first = &batch{st: b.st, from: b.from, to: b.gapTo, gapTo: b.gapTo, events: b.events[:n]}
	if n > 0 {
		first.to = b.events[n-1].Seq
	}
	return first, &batch{st: b.st, from: first.to, to: b.to, events: b.events[n:]}
}

// write stores a batch's rows and moves the cursor, both or neither. After an
// error it is open which, and only the cursor in Postgres tells.
func (s *session) write(ctx context.Context, b *batch, rows func(context.Context, pgx.Tx, *batch) error) error {
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
		if err := rows(ctx, tx, b); err != nil {
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
		if err := s.noteGap(ctx, tx, b.from+1, b.gapTo); err != nil {
			return err
		}
	}
	if err := copyRows(ctx, tx, s.rows(b.events)); err != nil {
		return err
	}
	if b.gapTo != 0 {
		return s.syncProxies(ctx, tx, b.st)
	}
	return s.putProxies(ctx, tx, b)
}

func copyRows(ctx context.Context, tx pgx.Tx, r *rowSet) error {
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
	return nil
}

func copying(rows []row) pgx.CopyFromSource {
	return pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) { return rows[i](), nil })
}

// noteGap records events that no one can store any more.
func (s *session) noteGap(ctx context.Context, tx pgx.Tx, from, to uint64) error {
	s.log.Error("archive: events were gone before they could be stored", "from_seq", from, "to_seq", to, "epoch", s.epoch)
	s.metrics.gaps.Add(float64(to - from + 1))
	_, err := tx.Exec(ctx, `INSERT INTO archive_gaps (cluster, epoch, from_seq, to_seq, node)
		VALUES ($1, $2, $3, $4, $5)`, s.clusterID, s.epoch, int64(from), int64(to), s.cfg.Node)
	return err
}
