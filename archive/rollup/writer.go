package rollup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// begin opens a transaction that waits for nobody for long: it holds up neither
// the queue nor those who make and drop partitions.
const begin = `BEGIN;
SET LOCAL lock_timeout = '2s';
SET LOCAL statement_timeout = '5s';
SET LOCAL idle_in_transaction_session_timeout = '5s'`

const (
	minBackoff = time.Second
	maxBackoff = 15 * time.Second
	// lastWrite bounds the writing of what is left when Run ends.
	lastWrite = 3 * time.Second
)

var errNoCluster = errors.New("the node is of no cluster yet")

// Run writes rows until ctx ends, then what is left if the database takes it at
// once. It never returns for the database's sake.
func (c *Collector) Run(ctx context.Context) error {
	w := &writer{Collector: c}
	defer w.disconnect()
	backoff := minBackoff
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-c.queue.wake:
			sleep(ctx, c.cfg.Linger)
		}
		for c.queue.len() > 0 && ctx.Err() == nil {
			err := w.writeSome(ctx)
			if w.told(err); err == nil {
				backoff = minBackoff
				continue
			}
			sleep(ctx, backoff)
			backoff = min(2*backoff, maxBackoff)
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWrite)
	defer cancel()
	for c.queue.len() > 0 {
		if err := w.writeSome(last); err != nil {
			c.metrics.drop(failed, len(c.queue.take(c.cfg.QueueRows)))
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// writer is Run's connection.
type writer struct {
	*Collector
	conn *pgx.Conn
	down bool // was told
}

// told logs when the database goes and comes back.
func (w *writer) told(err error) {
	switch {
	case err != nil && !w.down && !errors.Is(err, errNoCluster):
		w.log.Error("metrics of proxies are not written: what finds no room is dropped", "error", err)
		w.down = true
	case err == nil && w.down:
		w.log.Info("metrics of proxies are written again")
		w.down = false
	}
}

// writeSome writes one batch. Rows are taken from the queue once there is a
// connection; then they are written or dropped: never twice.
func (w *writer) writeSome(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	cluster := w.cluster()
	if cluster == "" {
		return errNoCluster
	}
	if err := w.connect(ctx); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	rows := w.queue.take(w.cfg.BatchRows)
	if err := w.copy(ctx, cluster, rows); err != nil {
		w.metrics.drop(failed, len(rows))
		w.disconnect()
		return fmt.Errorf("write %d rows: %w", len(rows), err)
	}
	w.metrics.rows.Add(float64(len(rows)))
	return nil
}

func (w *writer) connect(ctx context.Context) error {
	if w.conn != nil {
		if w.conn.Ping(ctx) == nil {
			return nil
		}
		w.disconnect()
	}
	cfg, err := pgx.ParseConfig(w.cfg.DatabaseURL)
	if err != nil {
		return err
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "envoy-control-plane metrics"
	}
	w.conn, err = pgx.ConnectConfig(ctx, cfg)
	return err
}

func (w *writer) disconnect() {
	if w.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = w.conn.Close(ctx) // it is given up in any case
	w.conn = nil
}

var columns = []string{
	"cluster", "at", "tenant", "fleet", "proxy", "node", "name", "labels", "kind", "count", "sum", "min", "max", "last", "le", "counts",
}

func (w *writer) copy(ctx context.Context, cluster string, rows []row) error {
	values := make([][]any, len(rows))
	for i := range rows {
		values[i] = rows[i].values(cluster, w.cfg.Node)
	}
	return pgx.BeginTxFunc(ctx, w.conn, pgx.TxOptions{BeginQuery: begin}, func(tx pgx.Tx) error {
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"proxy_metrics"}, columns, pgx.CopyFromRows(values))
		return err
	})
}

// values are the row's columns.
func (r *row) values(cluster, node string) []any {
	var low, high, last, le, counts any
	switch r.kind {
	case counter:
		last = r.last
	case gauge:
		low, high, last = r.min, r.max, r.last
	default:
		le, counts = r.le, r.counts
	}
	return []any{
		cluster, r.at, r.proxy.tenant, r.proxy.fleet, r.proxy.id, node, r.name, json.RawMessage(r.labels), r.kind.String(), r.count, r.sum,
		low, high, last, le, counts,
	}
}
