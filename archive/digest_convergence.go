package archive

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// converged is how far one node's proxies are with a revision, as its event
// says it.
type converged struct {
	Node        string    `json:"node"`
	Revision    uint64    `json:"revision"`
	CommittedAt time.Time `json:"committed_at"`
	Expected    int       `json:"expected"`
	Synced      int       `json:"synced"`
	Rejected    int       `json:"rejected"`
	Departed    int       `json:"departed"`
	Reached     []struct {
		WithinMS int32 `json:"within_ms"`
		Streams  int32 `json:"streams"`
	} `json:"reached"`
	Slowest json.RawMessage `json:"slowest"`
	Waiting []string        `json:"waiting"`
}

// converge stores a node's newest word on a revision.
func (d *digest) converge(ctx context.Context, ev *digested) error {
	c := &ev.data.converged
	if c.Revision == 0 {
		return nil // in a shape that is not known
	}
	within, streams := []int32{}, []int32{}
	for _, r := range c.Reached {
		within, streams = append(within, r.WithinMS), append(streams, r.Streams)
	}
	if c.Slowest == nil {
		c.Slowest = json.RawMessage("[]")
	}
	if c.Waiting == nil {
		c.Waiting = []string{}
	}
	_, err := d.tx.Exec(ctx, `INSERT INTO revision_convergence (cluster, epoch, tenant, fleet, at, revision, node,
			expected, synced, rejected, departed, within_ms, streams, slowest, waiting)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
		ON CONFLICT (cluster, epoch, tenant, fleet, at, revision, node) DO UPDATE SET
			expected = excluded.expected, synced = excluded.synced, rejected = excluded.rejected, departed = excluded.departed,
			within_ms = excluded.within_ms, streams = excluded.streams, slowest = excluded.slowest, waiting = excluded.waiting`,
		d.span.clusterID, d.span.epoch, ev.tenant, ev.fleet, timeOf(c.CommittedAt.UnixNano()), int64(c.Revision), c.Node,
		c.Expected, c.Synced, c.Rejected, c.Departed, within, streams, c.Slowest, c.Waiting)
	if err != nil {
		return fmt.Errorf("store convergence: %w", err)
	}
	return nil
}
