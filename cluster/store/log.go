package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
	"github.com/hashicorp/raft"
)

// A DamagedError is an entry that is not what was stored. The node must stop:
// served as it is the entry gives wrong data, dropped it takes back an
// acknowledgement that the node gave. Index 0: the whole file.
type DamagedError struct {
	Path  string
	Index uint64
	Cause string
}

// WayOut is what to do about damage.
const WayOut = "move the data directory aside and start the node again, " +
	"it then joins as a new incarnation and is brought up by the others; do not repair or truncate the file"

func (e *DamagedError) Error() string {
	if e.Index == 0 {
		return fmt.Sprintf("%s: the file is damaged (%s): %s", e.Path, e.Cause, WayOut)
	}
	return fmt.Sprintf("%s: the Raft log is damaged at index %d (%s): %s", e.Path, e.Index, e.Cause, WayOut)
}

// In front of an entry's extensions stand its checksum and what was known to
// be committed when it was written, 8 bytes each. Entries from before the
// second was kept have only the first.
const (
	sumBytes    = 8
	commitBytes = 8
)

// Log is a raft.LogStore that checks what it reads.
type Log struct {
	store raft.LogStore
	path  string
	watch *Watch
	// reserve is given up for entries that find no room.
	reserve *reserve
	// damaged is told of the first damaged entry, from the reader's goroutine.
	damaged func(error)
	// staged is the commit index that goes into the next entries; Raft's main
	// loop alone sets it and stores them.
	staged uint64
}

var (
	_ raft.LogStore          = (*Log)(nil)
	_ raft.MonotonicLogStore = (*Log)(nil)
)

// NewLog wraps store, whose file is path.
func NewLog(store raft.LogStore, path string, watch *Watch, damaged func(error)) *Log {
	return &Log{store: store, path: path, watch: watch, reserve: &reserve{}, damaged: damaged}
}

// IsMonotonic implements raft.MonotonicLogStore: Raft clears the whole log when
// it installs a snapshot, instead of leaving a divergent tail behind a gap.
func (l *Log) IsMonotonic() bool { return true }

// FirstIndex implements raft.LogStore.
func (l *Log) FirstIndex() (uint64, error) { return l.store.FirstIndex() }

// LastIndex implements raft.LogStore.
func (l *Log) LastIndex() (uint64, error) { return l.store.LastIndex() }

// GetLog implements raft.LogStore.
func (l *Log) GetLog(index uint64, into *raft.Log) error {
	_, err := l.read(index, into)
	return err
}

// read returns an entry, and the commit index that was stored with it.
func (l *Log) read(index uint64, into *raft.Log) (commit uint64, err error) {
	var got raft.Log
	err = l.store.GetLog(index, &got)
	switch {
	case errors.Is(err, raft.ErrLogNotFound):
		if l.missing(index) {
			return 0, l.damage(index, "it is missing")
		}
		return 0, err
	case err != nil:
		return 0, l.damage(index, err.Error())
	}
	if got.Index != index {
		return 0, l.damage(index, fmt.Sprintf("it says index %d", got.Index))
	}
	if len(got.Extensions) < sumBytes {
		return 0, l.damage(index, "it has no checksum")
	}
	want := binary.BigEndian.Uint64(got.Extensions)
	got.Extensions = got.Extensions[sumBytes:]
	if sum(&got) != want {
		return 0, l.damage(index, "its checksum does not match")
	}
	if len(got.Extensions) >= commitBytes {
		commit = binary.BigEndian.Uint64(got.Extensions)
		got.Extensions = got.Extensions[commitBytes:]
	}
	if len(got.Extensions) == 0 {
		got.Extensions = nil
	}
	*into = got
	return commit, nil
}

// missing reports whether an entry that was not found lies inside of the log.
func (l *Log) missing(index uint64) bool {
	first, err := l.store.FirstIndex()
	if err != nil || index < first || first == 0 {
		return false
	}
	last, err := l.store.LastIndex()
	return err == nil && index <= last
}

func (l *Log) damage(index uint64, cause string) error {
	err := &DamagedError{Path: l.path, Index: index, Cause: cause}
	l.damaged(err)
	return err
}

// StoreLog implements raft.LogStore.
func (l *Log) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

// StoreLogs implements raft.LogStore. The entries stay as they are: Raft uses
// them while and after they are stored.
func (l *Log) StoreLogs(entries []*raft.Log) error {
	summed := make([]*raft.Log, len(entries))
	for i, e := range entries {
		c := *e
		head := make([]byte, sumBytes, sumBytes+commitBytes+len(e.Extensions))
		head = binary.BigEndian.AppendUint64(head, min(l.staged, e.Index))
		head = append(head, e.Extensions...)
		c.Extensions = head[sumBytes:]
		binary.BigEndian.PutUint64(head, sum(&c))
		c.Extensions = head
		summed[i] = &c
	}
	store := func() error { return l.store.StoreLogs(summed) }
	err := l.watch.write(store)
	if IsFull(err) && l.reserve.release() {
		err = l.watch.write(store)
	}
	l.watch.appended(err)
	return err
}

// DeleteRange implements raft.LogStore.
func (l *Log) DeleteRange(first, last uint64) error {
	return l.watch.write(func() error { return l.store.DeleteRange(first, last) })
}

// Verify reads the whole log and returns what is wrong with the first damaged
// entry. Raft panics on it when it starts.
func (l *Log) Verify() error {
	first, err := l.FirstIndex()
	if err != nil {
		return fmt.Errorf("%s: first index: %w", l.path, err)
	}
	last, err := l.LastIndex()
	if err != nil {
		return fmt.Errorf("%s: last index: %w", l.path, err)
	}
	if first == 0 {
		return nil
	}
	var entry raft.Log
	for index := first; index <= last; index++ {
		if err := l.GetLog(index, &entry); err != nil {
			return err
		}
	}
	return nil
}

// sum covers all that Raft decides by and the commit index, not the time of
// the append.
func sum(e *raft.Log) uint64 {
	var head [17]byte
	binary.BigEndian.PutUint64(head[:], e.Index)
	binary.BigEndian.PutUint64(head[8:], e.Term)
	head[16] = byte(e.Type)
	d := xxhash.New()
	_, _ = d.Write(head[:]) // a hash takes everything
	_, _ = d.Write(e.Data)
	_, _ = d.Write(e.Extensions)
	return d.Sum64()
}
