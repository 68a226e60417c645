package archive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Archive writes events to Postgres while its node leads, and reads history
// from there at any time.
type Archive struct {
	cfg     Config
	log     *slog.Logger
	cluster Cluster
	json    jsonOf
	metrics *metrics

	// wake holds at most one ring of the bell.
	wake chan struct{}
	// at is called before each step of a batch; tests end the writer there.
	at func(step) error

	quarantined atomic.Int64

	mu    sync.Mutex
	fault error         // why the writer does not write; nil when it does
	pool  *pgxpool.Pool // for reading, while Run runs
	// lastError is the newest failure, over or not.
	lastError   error
	lastErrorAt time.Time
}

// New returns an archive that has not started. The database need not be up.
func New(cfg Config, deps Deps) (*Archive, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	a := &Archive{
		cfg: cfg, log: deps.Log, cluster: deps.Cluster, json: deps.JSON,
		wake: make(chan struct{}, 1),
		at:   func(step) error { return nil },
	}
	a.metrics = newMetrics(deps.Registry, a)
	return a, nil
}

// Applied tells the writer that there may be something to do. It never blocks.
func (a *Archive) Applied(*fsm.State, []*fsmpb.Event) {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

const (
	// leaderPoll is how often a node that does not lead looks whether it does.
	leaderPoll = 250 * time.Millisecond
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// Run writes whenever the node leads, until ctx ends. It never returns for the
// database's sake: it waits, tries again and says so in Status.
func (a *Archive) Run(ctx context.Context) error {
	pool, err := pgxpool.New(ctx, a.cfg.ReadURL)
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	a.setPool(pool)
	defer func() {
		a.setPool(nil)
		pool.Close()
	}()
	backoff := minBackoff
	for ctx.Err() == nil {
		if !a.cluster.IsLeader() {
			_ = a.setFault(nil) // whatever was wrong, another leads now
			a.sleep(ctx, leaderPoll)
			continue
		}
		started := time.Now()
		err := a.lead(ctx)
		if err == nil || errors.Is(err, errSuperseded) || ctx.Err() != nil {
			backoff = minBackoff
			a.sleep(ctx, leaderPoll)
			continue
		}
		a.failed(err)
		if time.Since(started) > maxBackoff {
			backoff = minBackoff
		}
		a.sleep(ctx, backoff)
		backoff = min(2*backoff, maxBackoff)
	}
	return nil
}

// lead writes with one connection until the node leads no longer, the history
// is another one, or something fails. Nothing that it knew survives it: the
// next one reads the cursor anew.
func (a *Archive) lead(ctx context.Context) error {
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	if s == nil {
		return nil
	}
	defer s.quarantined.Store(0)
	defer s.close()
	for ctx.Err() == nil {
		more, err := s.turn(ctx)
		if err != nil {
			return err
		}
		a.recovered()
		if more {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		case <-a.wake:
			a.sleep(ctx, a.cfg.Linger)
		}
	}
	return nil
}

func (a *Archive) sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// failed notes why the writer does not write, and says so when that is new.
func (a *Archive) failed(err error) {
	a.erred(err)
	if a.setFault(err) == nil {
		a.log.Error("archive is down: events wait in the outbox", "error", err,
			"outbox_bytes", a.cluster.State().OutboxBytes())
		return
	}
	a.log.Debug("archive is still down", "error", err)
}

func (a *Archive) recovered() {
	if a.setFault(nil) != nil {
		a.log.Info("archive is up again")
	}
}

// setFault returns what it replaces.
func (a *Archive) setFault(err error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	was := a.fault
	a.fault = err
	return was
}

func (a *Archive) setPool(p *pgxpool.Pool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pool = p
}
