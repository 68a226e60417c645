package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// maxReason bounds what is kept of Postgres' words, in bytes.
const maxReason = 2000

// refused returns why Postgres refuses the data itself, nil when that is not
// what is wrong: it is invalid (class 22), against a constraint (23) or a trigger
// (P0001), or over a limit of the server (54). A key that is there already
// speaks of the tables: the events' own keys differ.
func refused(err error) *pgconn.PgError {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || pg.Code == "23505" {
		return nil
	}
	for _, class := range []string{"22", "23", "54", "P0001"} {
		if strings.HasPrefix(pg.Code, class) {
			return pg
		}
	}
	return nil
}

// store writes a batch. One that Postgres refuses is halved until the event is
// found that it objects to. Each part is a transaction that moves the cursor, so
// that what is found out is not lost by what fails later.
func (s *session) store(ctx context.Context, b *batch) error {
	err := s.write(ctx, b, s.copyBatch)
	switch {
	case refused(err) == nil, len(b.events) == 0:
		return err
	case len(b.events) == 1 && b.gapTo == 0:
		return s.storeAlone(ctx, b, err)
	}
	first, second := b.halves()
	if err := s.store(ctx, first); err != nil {
		return err
	}
	return s.store(ctx, second)
}

// storeAlone stores an event that Postgres refuses: without its JSON, or, where
// that is not the reason, aside.
func (s *session) storeAlone(ctx context.Context, b *batch, cause error) error {
	s.erred(cause)
	s.plainly = true
	err := s.write(ctx, b, s.copyBatch)
	s.plainly = false
	if err == nil {
		s.log.Error("archive: an event cannot be stored as JSON, its text is stored", "seq", b.to)
		return nil
	}
	reason := refused(err)
	if reason == nil {
		return err
	}
	if err := s.probe(ctx, b.events[0]); err != nil {
		return fmt.Errorf("a probe in the place of event %d: %w", b.to, err)
	}
	err = s.write(ctx, b, func(ctx context.Context, tx pgx.Tx, b *batch) error {
		return s.setAside(ctx, tx, b, reason)
	})
	if err == nil {
		s.quarantined.Add(1)
		s.log.Error("archive: an event is set aside, Postgres refuses it", "seq", b.to, "epoch", s.epoch,
			"tenant", b.events[0].Tenant, "kind", fsm.EventKind(b.events[0]), "sqlstate", reason.Code, "reason", reason.Message)
	}
	return err
}

var errProbed = errors.New("probed")

// probe stores rows in the place of an event with nothing in them that could be
// objected to, and takes them back. Where they are refused too, it is not for
// the event.
func (s *session) probe(ctx context.Context, ev *fsmpb.Event) error {
	like := func() *fsmpb.Event {
		return &fsmpb.Event{
			Seq: ev.Seq, TenantSeq: ev.TenantSeq, Index: ev.Index, At: ev.At, Tenant: "default", Fleet: "default", By: "archive",
		}
	}
	revision, endpoints := like(), like()
	revision.Data = &fsmpb.Event_RevisionCreated{RevisionCreated: &fsmpb.RevisionCreated{
		Revision: 1, Changed: []*fsmpb.Change{{Op: fsmpb.Change_REMOVED, TypeUrl: fsm.TypeCluster, Name: "probe"}},
	}}
	endpoints.Data = &fsmpb.Event_EndpointsDeleted{EndpointsDeleted: &fsmpb.EndpointsDeleted{Service: "probe"}}
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		if err := copyRows(ctx, tx, s.rows([]*fsmpb.Event{revision, endpoints})); err != nil {
			return err
		}
		return errProbed
	})
	if errors.Is(err, errProbed) {
		return nil
	}
	return err
}

// setAside stores the one event of a batch in the quarantine. Its place in the
// history says so; where Postgres refuses that as well, the place is a gap.
func (s *session) setAside(ctx context.Context, tx pgx.Tx, b *batch, reason *pgconn.PgError) error {
	ev := b.events[0]
	content, err := proto.Marshal(ev)
	if err != nil {
		return fmt.Errorf("event %d: %w", ev.Seq, err)
	}
	said := reason.Message
	if reason.Detail != "" {
		said += " (" + reason.Detail + ")"
	}
	said = clean(said[:min(len(said), maxReason)])
	_, err = tx.Exec(ctx, `INSERT INTO archive_quarantine
		(cluster, epoch, seq, log_index, at, tenant, kind, sqlstate, reason, content, node)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		s.clusterID, s.epoch, int64(ev.Seq), int64(ev.Index), timeOf(ev.At), clean(ev.Tenant), fsm.EventKind(ev),
		reason.Code, said, content, s.cfg.Node)
	if err != nil {
		return fmt.Errorf("set aside: %w", err)
	}
	data, err := json.Marshal(map[string]any{"quarantined": map[string]string{"sqlstate": reason.Code, "reason": said}})
	if err != nil {
		return err
	}
	place := &rowSet{events: []row{func() []any { return s.event(ev, cleanJSON(data)) }}}
	stored, err := attempt(ctx, tx, func(tx pgx.Tx) error { return copyRows(ctx, tx, place) })
	if err == nil && !stored {
		err = s.noteGap(ctx, tx, ev.Seq, ev.Seq)
	}
	if err != nil {
		return err
	}
	_, err = attempt(ctx, tx, func(tx pgx.Tx) error { return s.putProxies(ctx, tx, b) })
	return err
}

// attempt stores what f does, unless Postgres refuses it.
func attempt(ctx context.Context, tx pgx.Tx, f func(pgx.Tx) error) (stored bool, err error) {
	part, err := tx.Begin(ctx) // a savepoint
	if err != nil {
		return false, err
	}
	err = f(part)
	if err == nil {
		return true, part.Commit(ctx)
	}
	if refused(err) == nil {
		return false, err
	}
	return false, part.Rollback(ctx)
}

// countQuarantined looks how many events of the history are set aside, when
// that is due: people take them out.
func (s *session) countQuarantined(ctx context.Context) error {
	if time.Since(s.quarantineCounted) < s.cfg.CheckEvery {
		return nil
	}
	var n int64
	err := s.conn.QueryRow(ctx, `SELECT count(*) FROM archive_quarantine WHERE cluster = $1 AND epoch = $2`,
		s.clusterID, s.epoch).Scan(&n)
	if err != nil {
		return fmt.Errorf("count the quarantine: %w", err)
	}
	s.quarantined.Store(n)
	s.quarantineCounted = time.Now()
	return nil
}

// Quarantined is how many events of the present history are set aside because
// Postgres refuses them, as far as this node has seen while it led.
func (a *Archive) Quarantined() int64 { return a.quarantined.Load() }
