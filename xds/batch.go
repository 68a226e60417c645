package xds

import (
	"context"
	"time"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// by is the subject of this package's commands.
const by = "xds"

// Pauses between attempts while the cluster takes no command.
const (
	minRetry = 50 * time.Millisecond
	maxRetry = time.Second
)

// run proposes batches until the context ends, after it has declared the
// streams of this node's past lost.
func (r *reporter) run(ctx context.Context) {
	if r.deps.Cluster == nil {
		return
	}
	past := &fsmpb.Command{By: by, Op: &fsmpb.Command_DropNode{DropNode: &fsmpb.DropNode{
		Node: r.config.NodeID, ThroughStart: r.config.NodeStart - 1,
	}}}
	if !r.insist(ctx, past) {
		return
	}
	held := time.NewTicker(paceInterval)
	defer held.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-held.C:
			r.release(now)
			continue
		case <-r.signal:
		}
		// A moment for others to come along.
		if !sleep(ctx, r.config.ReportInterval/5) {
			return
		}
		for {
			began := time.Now()
			batch, summaries := r.take(), r.takeSummaries()
			if len(batch) == 0 && len(summaries) == 0 {
				break
			}
			if !r.insist(ctx, r.command(batch, summaries)) {
				return
			}
			r.landed()
			r.metrics.reports.WithLabelValues("applied").Add(float64(len(batch) + len(summaries)))
			if len(batch) < maxBatchReports && !sleep(ctx, r.config.ReportInterval-time.Since(began)) {
				return
			}
		}
	}
}

func (r *reporter) command(batch []*fsmpb.ProxyReport, summaries []*fsmpb.Convergence) *fsmpb.Command {
	r.batch++
	return &fsmpb.Command{By: by, Op: &fsmpb.Command_ReportProxies{ReportProxies: &fsmpb.ReportProxies{
		Node: r.config.NodeID, NodeStart: r.config.NodeStart, Batch: r.batch, Reports: batch, Convergence: summaries,
	}}}
}

// insist proposes a command until the cluster has taken it; a batch carries a
// number, so that it counts once however often it is proposed. It returns
// false when the context ended first.
func (r *reporter) insist(ctx context.Context, c *fsmpb.Command) bool {
	pause := minRetry
	for attempt := 0; ; attempt++ {
		result, err := r.deps.Cluster.Propose(ctx, c)
		if err == nil {
			if refused := fsm.ResultError(result); refused != nil {
				r.deps.Log.Error("proxy reports refused", "error", refused)
			}
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if attempt == 5 {
			r.deps.Log.Warn("proxy reports wait for the cluster", "error", err)
		}
		if !sleep(ctx, pause) {
			return false
		}
		pause = min(2*pause, maxRetry)
	}
}

// sleep returns false when the context ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
