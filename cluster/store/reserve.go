package store

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// defaultReserve is how much room is kept for appends to a full disk. It has to
// take what is written until the leader knows that a majority's disks are full.
const defaultReserve = 8 << 20

var keyReserve = []byte("Reserve")

// keeper is a log's file that keeps values too.
type keeper interface {
	Get(key []byte) ([]byte, error)
	Set(key, value []byte) error
}

// reserve is room for entries inside of the log's own file, where nobody else
// can take it: a large value under a key that Raft does not know. When an append
// finds no room the value goes, and bolt has its pages, which have their blocks.
type reserve struct {
	file  keeper // nil: there is no reserve
	bytes int
	// free returns how much of the disk is free, when that is known.
	free func() (bytes uint64, ok bool)

	mu   sync.Mutex // held while the value is written
	held atomic.Bool
}

// open finds out whether the file has the reserve.
func (r *reserve) open() error {
	value, err := r.file.Get(keyReserve)
	if err != nil && err.Error() != errNotFound.Error() {
		return fmt.Errorf("reserve: %w", err)
	}
	r.held.Store(len(value) >= r.bytes)
	return nil
}

// release gives the room up; false when there was none.
func (r *reserve) release() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil || !r.held.Load() || r.file.Set(keyReserve, nil) != nil {
		return false
	}
	r.held.Store(false)
	return true
}

// fill makes the reserve if it is missing and the disk has room for as much
// again.
func (r *reserve) fill(w *Watch) error {
	if r.file == nil || r.held.Load() {
		return nil
	}
	if free, ok := r.free(); ok && free < 2*uint64(r.bytes) {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	err := w.write(func() error { return r.file.Set(keyReserve, make([]byte, r.bytes)) })
	if IsFull(err) {
		return nil // there was less than the disk said
	}
	if err != nil {
		return fmt.Errorf("reserve: %w", err)
	}
	r.held.Store(true)
	return nil
}

// IsFull reports whether an error says that there is no room. Nothing of the
// write is in the file then. Where bolt grows its file it tells that in words.
func IsFull(err error) bool {
	for _, no := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		if err != nil && (errors.Is(err, no) || strings.HasSuffix(err.Error(), no.Error())) {
			return true
		}
	}
	return false
}

// Short reports that there is no room for more than what keeps the cluster
// going: the reserve has been given up.
func (s *Stores) Short() bool {
	r := s.log.reserve
	return r.file != nil && !r.held.Load()
}

// Refill makes the reserve again once there is room.
func (s *Stores) Refill() error { return s.log.reserve.fill(s.Watch) }
