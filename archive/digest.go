package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// The digest is what reports about crowds of proxies are answered from. It is
// made of stored events alone, in transactions of its own: the batches that
// store events know nothing of it, events that an older node stored are
// digested all the same, and so is what was there before the tables were.

const (
	// digestPage bounds the events of one transaction.
	digestPage = 2000
	// digestAgain is how soon what failed is tried again.
	digestAgain = 10 * time.Second
)

// position is how far a history is digested. The zero position: it is not yet.
type position struct {
	seq uint64
	at  time.Time
}

// digest is the work of one transaction.
type digest struct {
	*session
	tx pgx.Tx
	// span is the history, through is as far as it may go.
	span span
}

// digestSome digests some of the stored events and reports whether there are
// more. A failure is no reason not to write.
func (s *session) digestSome(ctx context.Context) (more bool) {
	if s.digested == s.cursor || time.Now().Before(s.digestAt) {
		return false
	}
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		d := &digest{session: s, tx: tx}
		var err error
		more, err = d.oldest(ctx)
		return err
	})
	if waitedInVain(err) { // the digest of a leader that vanished
		err = errors.Join(err, s.endHolder(ctx, "archive_digests"))
	}
	if err != nil {
		s.digestAt = time.Now().Add(digestAgain)
		s.erred(err)
		s.log.Error("archive: reports fall behind", "error", err)
		return false
	}
	if !more {
		s.digested = s.cursor
	}
	return more
}

// oldest digests some of the oldest history of the lineage that is not
// digested: a history begins with what the one before it ended with.
func (d *digest) oldest(ctx context.Context) (more bool, err error) {
	spans, err := readLineage(ctx, d.tx, d.history, d.cursor)
	if err != nil {
		return false, err
	}
	for i := len(spans) - 1; i >= 0; i-- {
		d.span = spans[i]
		pos, err := d.lock(ctx)
		if err != nil {
			return false, err
		}
		if pos.seq >= d.span.through {
			continue
		}
		var parent *span
		if i+1 < len(spans) {
			parent = &spans[i+1]
		}
		if err := d.page(ctx, pos, parent); err != nil {
			return false, fmt.Errorf("digest events of epoch %s after %d: %w", d.span.epoch, pos.seq, err)
		}
		return true, nil
	}
	return false, nil
}

// lock reads how far the span's history is digested, and keeps others out.
func (d *digest) lock(ctx context.Context) (position, error) {
	var seq int64
	var pos position
	err := d.tx.QueryRow(ctx, `SELECT seq, at FROM archive_digests WHERE cluster = $1 AND epoch = $2 FOR UPDATE`,
		d.span.clusterID, d.span.epoch).Scan(&seq, &pos.at)
	if errors.Is(err, pgx.ErrNoRows) {
		return position{}, nil
	}
	pos.seq = uint64(seq)
	return pos, err
}

const digestedEvents = `
SELECT seq, at, tenant, fleet, kind, data FROM fleet_events
WHERE cluster = $1 AND epoch = $2 AND seq > $3 AND seq <= $4 AND at >= $5 AND kind IN (
    'proxy_connected', 'proxy_disconnected', 'proxy_rejected', 'proxy_deleted', 'proxy_collapsed', 'convergence_recorded')
    AND NOT data ? 'quarantined'
ORDER BY seq LIMIT $6`

// page digests the events after a position that are of one day, as many as
// one transaction takes.
func (d *digest) page(ctx context.Context, pos position, parent *span) error {
	whole := true // nothing before the position is missing
	if pos.seq == 0 {
		var err error
		if pos, whole, err = d.begin(ctx, parent); err != nil {
			return err
		}
	}
	rows, err := d.tx.Query(ctx, digestedEvents, d.span.clusterID, d.span.epoch,
		int64(pos.seq), int64(d.span.through), pos.at, digestPage)
	if err != nil {
		return err
	}
	events, err := pgx.CollectRows(rows, scanDigested)
	if err != nil {
		return err
	}
	to := position{seq: d.span.through, at: pos.at}
	if len(events) == digestPage {
		to.seq = events[digestPage-1].seq
	}
	for i, ev := range events {
		if i > 0 && !dayOf(ev.at).Equal(dayOf(events[0].at)) {
			events, to.seq = events[:i], events[i-1].seq
			break
		}
	}
	if n := len(events); n > 0 {
		to.at = events[n-1].at
		if err := d.take(ctx, pos, events); err != nil {
			return err
		}
	}
	gap, err := d.gap(ctx, pos.seq, to.seq)
	if err != nil {
		return err
	}
	if gap || !whole {
		if err := d.resync(ctx, to.at); err != nil {
			return err
		}
	}
	_, err = d.tx.Exec(ctx, `UPDATE archive_digests SET seq = $3, at = $4 WHERE cluster = $1 AND epoch = $2`,
		d.span.clusterID, d.span.epoch, int64(to.seq), to.at)
	return err
}

// begin makes the row of a history that has not been digested. Its proxies are
// those that the history before it ended with; whole reports whether that, and
// the events from there on, are known.
func (d *digest) begin(ctx context.Context, parent *span) (pos position, whole bool, err error) {
	var seq int64
	err = d.tx.QueryRow(ctx, `SELECT seq, at FROM fleet_events WHERE cluster = $1 AND epoch = $2 ORDER BY seq LIMIT 1`,
		d.span.clusterID, d.span.epoch).Scan(&seq, &pos.at)
	if errors.Is(err, pgx.ErrNoRows) { // all in a gap, or dropped
		seq, pos.at, err = int64(d.span.through)+1, time.Unix(0, d.cluster.State().Stamp()).UTC(), nil
	}
	if err != nil {
		return pos, false, err
	}
	pos.seq = uint64(seq) - 1
	_, err = d.tx.Exec(ctx, `INSERT INTO archive_digests (cluster, epoch, seq, at, first_at) VALUES ($1, $2, $3, $4, $4)`,
		d.span.clusterID, d.span.epoch, int64(pos.seq), pos.at)
	if err != nil || parent == nil {
		return pos, pos.seq < d.span.first, err
	}
	_, err = d.tx.Exec(ctx, `INSERT INTO proxy_status (cluster, epoch, tenant, proxy, fleet, build, connected, since)
		SELECT $1, $2, tenant, proxy, fleet, build, connected, since FROM proxy_status p
		JOIN archive_digests d USING (cluster, epoch) WHERE cluster = $3 AND epoch = $4 AND d.seq <= $5`,
		d.span.clusterID, d.span.epoch, parent.clusterID, parent.epoch, int64(parent.through))
	if err != nil {
		return pos, false, err
	}
	return pos, false, d.turnDay(ctx, dayOf(pos.at))
}

// gap reports whether events between two sequences are missing, or set aside.
func (d *digest) gap(ctx context.Context, after, through uint64) (missing bool, err error) {
	err = d.tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM archive_gaps
		WHERE cluster = $1 AND epoch = $2 AND to_seq > $3 AND from_seq <= $4)
		OR EXISTS (SELECT FROM archive_quarantine WHERE cluster = $1 AND epoch = $2 AND seq > $3 AND seq <= $4)`,
		d.span.clusterID, d.span.epoch, int64(after), int64(through)).Scan(&missing)
	return missing, err
}

// digested is one event, as far as the digest reads it.
type digested struct {
	seq                 uint64
	at                  time.Time
	tenant, fleet, kind string
	data                digestedData
}

type digestedData struct {
	Proxy       string `json:"proxy"`
	Build       string `json:"build"`
	StreamsLeft int    `json:"streams_left"`
	Connected   bool   `json:"connected"`
	Deleted     bool   `json:"deleted"`
	Rejection   struct {
		Type     string `json:"type"`
		Detail   string `json:"detail"`
		Revision uint64 `json:"revision"`
	} `json:"rejection"`
	converged
	// Text holds the whole where jsonb could not.
	Text string `json:"text"`
}

func scanDigested(row pgx.CollectableRow) (*digested, error) {
	var ev digested
	var seq int64
	var raw []byte
	if err := row.Scan(&seq, &ev.at, &ev.tenant, &ev.fleet, &ev.kind, &raw); err != nil {
		return nil, err
	}
	ev.seq, ev.at = uint64(seq), ev.at.UTC()
	err := json.Unmarshal(raw, &ev.data)
	if err == nil && ev.data.Text != "" {
		err = json.Unmarshal([]byte(ev.data.Text), &ev.data)
	}
	if err != nil {
		// Of an event in another shape, from a newer node, nothing is digested.
		ev.data = digestedData{}
	}
	return &ev, nil
}

// dayOf is the first moment of a day, UTC.
func dayOf(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }
