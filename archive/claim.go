package archive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/org/envoy-control-plane/fsm"
)

// inTx runs f in a transaction and commits it when f has no objection.
func (s *session) inTx(ctx context.Context, f func(pgx.Tx) error) error {
	tx, err := s.conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: begin})
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		if closed := tx.Rollback(ctx); closed != nil && !errors.Is(closed, pgx.ErrTxClosed) {
			err = errors.Join(err, closed)
		}
		return err
	}
	return tx.Commit(ctx)
}

// claim makes this node's term the one that may move the cursor, and reads
// where it is. Who keeps it locked for long is of an older term, or a connection
// of this node that it has lost, and is ended.
func (s *session) claim(ctx context.Context, st *fsm.State) error {
	if err := s.at(stepClaim); err != nil {
		return err
	}
	err := s.tryClaim(ctx, st)
	if waitedInVain(err) {
		if err := s.overthrow(ctx); err != nil {
			return err
		}
		err = s.tryClaim(ctx, st)
	}
	if err != nil {
		return fmt.Errorf("claim the cursor: %w", err)
	}
	s.checked = time.Now()
	return nil
}

// overthrow ends whoever holds the cursor, unless a later leader has claimed it.
func (s *session) overthrow(ctx context.Context) error {
	var term int64
	err := s.conn.QueryRow(ctx, `SELECT term FROM archive_cursor WHERE cluster = $1 AND epoch = $2`, s.clusterID, s.epoch).Scan(&term)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil // the row is being made
	case err != nil:
		return fmt.Errorf("read the cursor's term: %w", err)
	case term > int64(s.term):
		return s.superseded(term)
	}
	return s.endHolder(ctx, "archive_cursor")
}

func (s *session) superseded(term int64) error {
	return fmt.Errorf("%w: in term %d, this node leads in %d", errSuperseded, term, s.term)
}

// tryClaim claims the cursor. The first claim of an epoch makes its rows.
func (s *session) tryClaim(ctx context.Context, st *fsm.State) error {
	return s.inTx(ctx, func(tx pgx.Tx) error {
		made, err := s.makeEpoch(ctx, tx, st)
		if err != nil {
			return err
		}
		var term int64
		s.cursor, term, err = s.lockCursor(ctx, tx)
		if err != nil {
			return err
		}
		if term > int64(s.term) {
			return s.superseded(term)
		}
		if made {
			if err := s.syncProxies(ctx, tx, st); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `UPDATE archive_cursor SET term = $3, node = $4, updated_at = now()
			WHERE cluster = $1 AND epoch = $2`, s.clusterID, s.epoch, int64(s.term), s.cfg.Node)
		return err
	})
}

func (s *session) lockCursor(ctx context.Context, tx pgx.Tx) (uint64, int64, error) {
	var seq, term int64
	err := tx.QueryRow(ctx, `SELECT seq, term FROM archive_cursor
		WHERE cluster = $1 AND epoch = $2 FOR UPDATE`, s.clusterID, s.epoch).Scan(&seq, &term)
	return uint64(seq), term, err
}

// makeEpoch inserts the rows of a new epoch and reports whether it did.
func (s *session) makeEpoch(ctx context.Context, tx pgx.Tx, st *fsm.State) (bool, error) {
	start, err := s.branch(ctx, tx, st)
	if err != nil {
		return false, err
	}
	id := st.Identity()
	tag, err := tx.Exec(ctx, `INSERT INTO archive_epochs
		(cluster, epoch, parent_cluster, parent_epoch, parent_seq, first_seq)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
		s.clusterID, s.epoch, id.GetParentClusterId(), id.GetParentEpoch(), int64(id.GetParentSeq()), int64(start+1))
	if err != nil || tag.RowsAffected() == 0 {
		return false, err
	}
	s.log.Info("archive: a new epoch begins", "epoch", s.epoch, "parent_epoch", id.GetParentEpoch(), "after_seq", start)
	_, err = tx.Exec(ctx, `INSERT INTO archive_cursor (cluster, epoch, seq, term, node)
		VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
		s.clusterID, s.epoch, int64(start), int64(s.term), s.cfg.Node)
	return true, err
}

// branch returns the sequence after which an epoch's own events begin: 0 for a
// first epoch; else where the parent branched or, when the parent's events are
// not all here, where those end that are.
func (s *session) branch(ctx context.Context, tx pgx.Tx, st *fsm.State) (uint64, error) {
	id := st.Identity()
	if id.GetParentEpoch() == "" {
		return 0, nil
	}
	parent := history{id.GetParentClusterId(), id.GetParentEpoch()}
	if parent.clusterID == "" {
		parent.clusterID = s.clusterID
	}
	var seq int64
	err := tx.QueryRow(ctx, "SELECT seq FROM archive_cursor WHERE cluster = $1 AND epoch = $2",
		parent.clusterID, parent.epoch).Scan(&seq)
	if errors.Is(err, pgx.ErrNoRows) {
		// The parent has another archive, or none: what is retained of it is
		// all that there is.
		return min(id.GetParentSeq(), st.FirstSeq()-1), nil
	}
	return min(id.GetParentSeq(), uint64(seq)), err
}

// check reads the cursor anew when that is due, also to notice that the
// database has gone. Lower than it was: Postgres has lost its last
// transactions, and they are written again from the outbox.
func (s *session) check(ctx context.Context) error {
	if time.Since(s.checked) < s.cfg.CheckEvery {
		return nil
	}
	return s.reread(ctx)
}

func (s *session) reread(ctx context.Context) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		seq, term, err := s.lockCursor(ctx, tx)
		if err != nil {
			return err
		}
		if term != int64(s.term) {
			return s.superseded(term)
		}
		if seq != s.cursor {
			s.log.Warn("archive: the cursor has moved, going on from there", "was", s.cursor, "is", seq)
		}
		s.cursor, s.checked = seq, time.Now()
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the cursor: %w", err)
	}
	return nil
}
