package xds

import (
	"context"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
)

// admission bounds how many new streams are taken in at a time, from decoding
// their first request until its answer is handed over. Those that wait, first
// come first served, hold their goroutine and that request as it came.
type admission struct {
	slots   *semaphore.Weighted
	waiting prometheus.Gauge
}

func newAdmission(limit int, waiting prometheus.Gauge) *admission {
	return &admission{slots: semaphore.NewWeighted(int64(limit)), waiting: waiting}
}

// enter waits for a stream's turn. leave, which may be called more than once,
// gives the next one its turn.
func (a *admission) enter(ctx context.Context) (leave func(), err error) {
	if !a.slots.TryAcquire(1) {
		a.waiting.Inc()
		defer a.waiting.Dec()
		if err := a.slots.Acquire(ctx, 1); err != nil {
			return nil, err
		}
	}
	return sync.OnceFunc(func() { a.slots.Release(1) }), nil
}
