package rollup

import "sync"

// queue holds the rows that wait to be written, up to a bound; nobody waits for
// it.
type queue struct {
	metrics *metrics
	limit   int
	wake    chan struct{} // holds at most one ring of the bell

	mu   sync.Mutex
	rows []row
}

func newQueue(limit int, m *metrics) *queue {
	return &queue{metrics: m, limit: limit, wake: make(chan struct{}, 1)}
}

// offer takes rows, and drops what there is no room for.
func (q *queue) offer(rows []row) {
	if len(rows) == 0 {
		return
	}
	q.mu.Lock()
	fit := min(len(rows), q.limit-len(q.rows))
	q.rows = append(q.rows, rows[:fit]...)
	q.mu.Unlock()
	if fit < len(rows) {
		q.metrics.drop(queueFull, len(rows)-fit)
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take removes and returns up to n rows, those first that have waited longest.
func (q *queue) take(n int) []row {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = min(n, len(q.rows))
	out := q.rows[:n:n]
	if q.rows = q.rows[n:]; len(q.rows) == 0 {
		q.rows = nil
	}
	return out
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.rows)
}
