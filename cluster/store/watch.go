package store

import (
	"errors"
	"sync"
	"time"

	bolterrors "go.etcd.io/bbolt/errors"
)

// Watch knows how long the present write has been going on, and whether the
// disk has failed for good.
type Watch struct {
	mu     sync.Mutex
	began  map[uint64]time.Time
	next   uint64
	failed error
	// full: the last append found no room. Nothing of it is in the file.
	full bool
	// released is closed when the node has left Raft.
	released chan struct{}
	once     sync.Once
	// total and count of the writes that ended.
	total time.Duration
	count uint64
}

// NewWatch makes a Watch for the stores of one node.
func NewWatch() *Watch {
	return &Watch{began: map[uint64]time.Time{}, released: make(chan struct{})}
}

// Release lets go on who waits in hold. The node must have left Raft.
func (w *Watch) Release() { w.once.Do(func() { close(w.released) }) }

// hold keeps Raft's main loop from what it cannot do without a disk: it panics
// when a term cannot be stored. It waits until the node has left Raft.
func (w *Watch) hold() { <-w.released }

// Hanging returns how long the oldest write under way has taken, 0 for none.
func (w *Watch) Hanging() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	var longest time.Duration
	for _, t := range w.began {
		longest = max(longest, time.Since(t))
	}
	return longest
}

// Failed returns the error after which nothing is written any more: one of a
// sync says that what was written before may be gone. Bolt tells some of them in
// words only, so that every error counts that is not about room.
func (w *Watch) Failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

// ErrFull is the error of an append for which there is no room on the disk. The
// entries are certainly in no log.
var ErrFull = errors.New("there is no room on the disk of the Raft log")

// Full reports whether the last append found no room, not even in the reserve.
func (w *Watch) Full() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.full
}

func (w *Watch) appended(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.full = IsFull(err)
}

// Written returns the number of writes that ended and the time they took.
func (w *Watch) Written() (count uint64, total time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count, w.total
}

// write runs one write and times it.
func (w *Watch) write(do func() error) error {
	w.mu.Lock()
	if w.failed != nil {
		defer w.mu.Unlock()
		return w.failed
	}
	id := w.next
	w.next++
	began := time.Now()
	w.began[id] = began
	w.mu.Unlock()

	err := do()

	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.began, id)
	w.count++
	w.total += time.Since(began)
	if err != nil && !IsFull(err) && !errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		w.failed = err
	}
	return err
}
