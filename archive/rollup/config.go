package rollup

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
)

// Config says what is kept and where. Zero fields take the defaults that are
// named beside them.
type Config struct {
	// DatabaseURL of the primary.
	DatabaseURL string
	// Node is the id of this node, noted beside what it writes.
	Node string
	// Allow are the names of the metrics that are kept, with * for any run of
	// characters. None: nothing is.
	Allow []string
	// Interval (1 min) is what a row sums up: a part of an hour, 10 s at least.
	Interval time.Duration

	// MaxMessage (4 MiB) bounds one message, MaxStreams (4) the streams of one proxy.
	MaxMessage, MaxStreams int
	// ProxySeries (1000) and NodeSeries (500,000) bound the series of one proxy
	// and of all.
	ProxySeries, NodeSeries int
	// QueueRows (100,000) bounds the rows that wait to be written, BatchRows (10,000)
	// those of one transaction.
	QueueRows, BatchRows int
	// Linger (1 s) is how long the first row waits for others.
	Linger time.Duration
	// Timeout (10 s) bounds every exchange with the database.
	Timeout time.Duration
}

// Deps is what a Collector works with.
type Deps struct {
	Log      *slog.Logger
	Registry prometheus.Registerer
	// Cluster is the id of the cluster, empty while it has none.
	Cluster func() string
}

const minInterval = 10 * time.Second

// complete checks a configuration and fills in what it leaves open.
func (c Config) complete() (Config, error) {
	c.Interval = cmp.Or(c.Interval, time.Minute)
	c.MaxMessage = cmp.Or(c.MaxMessage, 4<<20)
	c.MaxStreams = cmp.Or(c.MaxStreams, 4)
	c.ProxySeries = cmp.Or(c.ProxySeries, 1000)
	c.NodeSeries = cmp.Or(c.NodeSeries, 500_000)
	c.QueueRows = cmp.Or(c.QueueRows, 100_000)
	c.BatchRows = cmp.Or(c.BatchRows, 10_000)
	c.Linger = cmp.Or(c.Linger, time.Second)
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	var wrong []error
	if _, err := pgx.ParseConfig(c.DatabaseURL); c.DatabaseURL == "" || err != nil {
		wrong = append(wrong, fmt.Errorf("metrics of proxies need a database URL: %w", err))
	}
	wrong = append(wrong, CheckAllow(c.Allow), CheckInterval(c.Interval))
	if min(c.MaxMessage, c.MaxStreams, c.ProxySeries, c.NodeSeries, c.QueueRows, c.BatchRows) < 0 || c.Linger < 0 || c.Timeout < 0 {
		wrong = append(wrong, errors.New("bounds of the metrics of proxies are not negative"))
	}
	return c, errors.Join(wrong...)
}

// CheckInterval returns why an interval cannot be one that rows sum up.
func CheckInterval(d time.Duration) error {
	if d < minInterval || d > time.Hour || time.Hour%d != 0 {
		return fmt.Errorf("%v is no part of an hour of %v at least", d, minInterval)
	}
	return nil
}
