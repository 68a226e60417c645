package archive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
	"github.com/org/envoy-control-plane/migrations"
)

// errSuperseded ends a session that somebody else writes for now: the node no
// longer leads in the session's term, or a leader of a later term has claimed
// the cursor.
var errSuperseded = errors.New("another leader writes the archive")

// step names a point of the writer's work, in order.
type step string

// Steps at which a writer may die.
const (
	stepClaim  step = "claim"  // before the cursor is claimed
	stepCursor step = "cursor" // in the transaction, before the cursor moves
	stepRows   step = "rows"   // in the transaction, the cursor has moved
	stepCommit step = "commit" // all rows are sent
	stepAck    step = "ack"    // committed, not yet acknowledged
	stepDone   step = "done"   // acknowledged
)

// history names a sequence space.
type history struct{ clusterID, epoch string }

// session is one leadership's, or less, work on one connection.
type session struct {
	*Archive
	conn *pgx.Conn
	history
	term uint64
	// cursor is the last sequence stored, as Postgres last said.
	cursor uint64
	// acked is the last sequence that this session has acknowledged.
	acked uint64
	// plainly is set while an event is stored without its JSON.
	plainly bool

	checked, maintained, counted, quarantineCounted time.Time

	// digested is the cursor up to which all is digested; digestAt is when that
	// is next tried, digestMonth the last month that was.
	digested    uint64
	digestAt    time.Time
	digestMonth month
}

// begin opens a transaction that cannot wait or linger for ever: the settings
// travel with it, so that they hold behind a pooler too.
const begin = `BEGIN;
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '30s';
SET LOCAL idle_in_transaction_session_timeout = '30s'`

// maxMigration bounds the steps of the schema, which may move many rows.
const maxMigration = 15 * time.Minute

// open connects, brings the schema up to date and claims the cursor for this
// node's term. It returns nil while there is nothing to archive yet. Events wait
// for a database from the start, whether it can be reached or not.
func (a *Archive) open(ctx context.Context) (*session, error) {
	term, st := a.cluster.Term(), a.cluster.State()
	if !a.cluster.IsLeader() || st.Identity().GetEpoch() == "" {
		return nil, nil
	}
	configuring, cancel := context.WithTimeout(ctx, a.cfg.Timeout)
	defer cancel()
	_ = a.configure(configuring, st) // logged; turns try again
	conn, err := connect(ctx, a.cfg.DatabaseURL)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	s := &session{
		Archive: a, conn: conn, term: term,
		history: history{st.Identity().GetClusterId(), st.Identity().GetEpoch()},
	}
	if err := s.start(ctx, st); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "envoy-control-plane"
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return pgx.ConnectConfig(ctx, cfg)
}

// Migrate brings the schema of a database up to date.
func Migrate(ctx context.Context, url string) error {
	conn, err := connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	_, err = migrations.Apply(ctx, conn)
	return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
}

func (s *session) start(ctx context.Context, st *fsm.State) error {
	migrating, cancel := context.WithTimeout(ctx, maxMigration)
	defer cancel()
	n, err := migrations.Apply(migrating, s.conn)
	if err != nil {
		return err
	}
	if n > 0 {
		s.log.Info("archive schema migrated", "steps", n)
	}
	claiming, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	if err := s.claim(claiming, st); err != nil {
		return err
	}
	s.log.Info("archive writer started", "epoch", s.epoch, "term", s.term,
		"cursor", s.cursor, "last_seq", st.Seq())
	return nil
}

func (s *session) close() {
	s.metrics.defaultRows.Reset() // another node counts now
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.conn.Close(ctx) // it is given up in any case
}

// turn does what is due and reports whether more is.
func (s *session) turn(ctx context.Context) (more bool, err error) {
	st := s.cluster.State()
	id := st.Identity()
	if !s.cluster.IsLeader() || s.cluster.Term() != s.term || id.GetEpoch() != s.epoch {
		return false, errSuperseded
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	if err := s.configure(ctx, st); err != nil {
		return false, nil // logged; the cluster's trouble is not the database's, and the next turn tries again
	}
	s.maintain(ctx, st)
	s.countDefaults(ctx)
	if err := errors.Join(s.check(ctx), s.countQuarantined(ctx)); err != nil {
		return false, err
	}
	b := s.collect(st)
	if !b.empty() {
		if err := s.store(ctx, b); err != nil {
			return false, err
		}
	}
	if err := s.acknowledge(ctx, st); err != nil || b.full {
		return b.full, err
	}
	return s.digestSome(ctx), nil
}

// configure makes the cluster's settings this node's.
func (a *Archive) configure(ctx context.Context, st *fsm.State) error {
	want := a.cfg.settings(st.Archive())
	if proto.Equal(want, st.Archive()) {
		return nil
	}
	err := a.propose(ctx, &fsmpb.Command{By: "archive", Op: &fsmpb.Command_ConfigureArchive{
		ConfigureArchive: &fsmpb.ConfigureArchive{Settings: want},
	}})
	if err != nil {
		a.log.Warn("archive: configure the cluster", "error", err)
		return err
	}
	a.Applied(nil, nil) // a turn with the new settings
	return nil
}

// acknowledge tells the cluster how far the cursor is. When that fails it is
// told again: the cursor stays where it is.
func (s *session) acknowledge(ctx context.Context, st *fsm.State) error {
	if s.cursor <= max(s.acked, st.ArchivedSeq()) || s.cursor > s.cluster.State().Seq() {
		return nil
	}
	if err := s.at(stepAck); err != nil {
		return err
	}
	err := s.propose(ctx, &fsmpb.Command{By: "archive", Op: &fsmpb.Command_AckArchived{
		AckArchived: &fsmpb.AckArchived{Epoch: s.epoch, ThroughSeq: s.cursor},
	}})
	if err != nil {
		s.log.Debug("archive: acknowledge", "through_seq", s.cursor, "error", err)
		return nil // the next turn acknowledges again
	}
	s.acked = s.cursor
	return s.at(stepDone)
}

func (a *Archive) propose(ctx context.Context, c *fsmpb.Command) error {
	r, err := a.cluster.Propose(ctx, c)
	if err != nil {
		return err
	}
	return fsm.ResultError(r)
}
