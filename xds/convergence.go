package xds

import (
	"slices"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Bounds of the summaries that wait for a batch, and of those that one takes.
const (
	maxSummaries      = 1000
	maxBatchSummaries = 50
)

// converged queues summaries. A newer one of the same revision replaces the
// one that still waits; beyond the bound the oldest is given up, and counted.
func (r *reporter) converged(summaries []*fsmpb.Convergence) {
	if r.deps.Cluster == nil || len(summaries) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range summaries {
		i := slices.IndexFunc(r.summaries, func(o *fsmpb.Convergence) bool {
			return o.RevisionIndex == c.RevisionIndex && o.Revision == c.Revision && o.Fleet == c.Fleet && o.Tenant == c.Tenant
		})
		switch {
		case i >= 0:
			r.summaries[i] = c
			continue
		case len(r.summaries) == maxSummaries:
			r.summaries = slices.Delete(r.summaries, 0, 1)
			r.metrics.reports.WithLabelValues("dropped").Inc()
		}
		r.summaries = append(r.summaries, c)
	}
	select {
	case r.signal <- struct{}{}:
	default:
	}
}

// takeSummaries removes the next ones.
func (r *reporter) takeSummaries() []*fsmpb.Convergence {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(len(r.summaries), maxBatchSummaries)
	some := slices.Clone(r.summaries[:n])
	r.summaries = slices.Delete(r.summaries, 0, n)
	return some
}
