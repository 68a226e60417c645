package archive

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Config says where the archive is and how it is written. Zero fields take
// the defaults that are named beside them.
type Config struct {
	// DatabaseURL of the primary; ReadURL of what answers History, the same
	// when empty.
	DatabaseURL, ReadURL string
	// Node is the id of this node, noted beside what it writes.
	Node string

	// BatchEvents (16384) and BatchBytes (16 MiB) bound one transaction.
	BatchEvents, BatchBytes int
	// Linger (20 ms) is how long the first event waits for others.
	Linger time.Duration
	// Timeout (30 s) bounds every exchange with the database.
	Timeout time.Duration
	// CheckEvery (10 s) is how often an idle writer asks whether the cursor
	// is still where it left it.
	CheckEvery time.Duration
	// LagAfter (10 s) is the age of an unarchived event from which on the
	// state is "lagging".
	LagAfter time.Duration

	// MonthsAhead (3) is how many monthly partitions are made in advance.
	MonthsAhead int
	// Retention drops partitions that have ended this long ago; 0 keeps all.
	Retention time.Duration
	// MetricsRetention does so with what proxies have measured.
	MetricsRetention time.Duration

	// Overflow, ReplayWindow and MaxOutboxBytes become the cluster's settings
	// when this node leads; zero values leave what is set.
	Overflow       fsmpb.ArchiveSettings_Overflow
	ReplayWindow   time.Duration
	MaxOutboxBytes uint64
}

// Cluster is what the archive needs of the node's cluster.
type Cluster interface {
	// State is the newest locally applied state.
	State() *fsm.State
	// Propose hands a command to the log.
	Propose(ctx context.Context, c *fsmpb.Command) (*fsmpb.Result, error)
	// IsLeader and Term tell whether this node leads, and in which Raft term.
	IsLeader() bool
	Term() uint64
}

// Deps is what the archive works with.
type Deps struct {
	Log      *slog.Logger
	Registry prometheus.Registerer
	Cluster  Cluster
	// JSON renders a resource's bytes; nil or an error: only the bytes are
	// stored.
	JSON func(typeURL string, body []byte) (json.RawMessage, error)
}

// complete checks a configuration and fills in what it leaves open.
func (c Config) complete() (Config, error) {
	c.ReadURL = cmp.Or(c.ReadURL, c.DatabaseURL)
	c.BatchEvents = cmp.Or(c.BatchEvents, 16384)
	c.BatchBytes = cmp.Or(c.BatchBytes, 16<<20)
	c.Linger = cmp.Or(c.Linger, 20*time.Millisecond)
	c.Timeout = cmp.Or(c.Timeout, 30*time.Second)
	c.CheckEvery = cmp.Or(c.CheckEvery, 10*time.Second)
	c.LagAfter = cmp.Or(c.LagAfter, 10*time.Second)
	c.MonthsAhead = cmp.Or(c.MonthsAhead, 3)
	var errs []error
	if c.DatabaseURL == "" {
		errs = append(errs, errors.New("the archive needs a database URL"))
	}
	if _, err := pgx.ParseConfig(c.DatabaseURL); err != nil {
		errs = append(errs, fmt.Errorf("database URL: %w", err))
	}
	if _, err := pgx.ParseConfig(c.ReadURL); err != nil {
		errs = append(errs, fmt.Errorf("database read URL: %w", err))
	}
	if c.BatchEvents < 0 || c.BatchBytes < 0 || c.MonthsAhead < 0 || c.Retention < 0 || c.MetricsRetention < 0 {
		errs = append(errs, errors.New("sizes and times of the archive are not negative"))
	}
	return c, errors.Join(errs...)
}

// settings are the ones that the cluster shall have.
func (c Config) settings(have *fsmpb.ArchiveSettings) *fsmpb.ArchiveSettings {
	return &fsmpb.ArchiveSettings{
		Enabled:        true,
		Overflow:       c.Overflow,
		ReplayWindowMs: cmp.Or(c.ReplayWindow.Milliseconds(), have.GetReplayWindowMs()),
		MaxOutboxBytes: cmp.Or(c.MaxOutboxBytes, have.GetMaxOutboxBytes()),
	}
}
