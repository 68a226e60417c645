package store

import (
	"fmt"

	"github.com/hashicorp/raft"
)

// tracked is the cached log with what LogCache hides: Raft hands its commit
// index to the log with every write.
type tracked struct {
	*raft.LogCache
	log *Log
}

var (
	_ raft.CommitTrackingLogStore = tracked{}
	_ raft.MonotonicLogStore      = tracked{}
)

// StoreLogs implements raft.LogStore. LogCache tells the kind of an error in
// words only.
func (t tracked) StoreLogs(entries []*raft.Log) error {
	err := t.dropReplaced(entries)
	if err == nil {
		err = t.LogCache.StoreLogs(entries)
	}
	if err != nil && t.log.watch.Full() {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// dropReplaced clears a log on which entries do not follow: it was replaced by a
// snapshot. Raft clears it itself when it installs that, but goes on when the
// disk has no room for it, and what comes next would leave a hole.
func (t tracked) dropReplaced(entries []*raft.Log) error {
	last, err := t.LastIndex()
	if err != nil || last == 0 || len(entries) == 0 || entries[0].Index <= last+1 {
		return err
	}
	first, err := t.FirstIndex()
	if err != nil {
		return err
	}
	return t.DeleteRange(first, last)
}

// StoreLog implements raft.LogStore.
func (t tracked) StoreLog(entry *raft.Log) error { return t.StoreLogs([]*raft.Log{entry}) }

// StageCommitIndex implements raft.CommitTrackingLogStore: the next entries
// carry the index, in the same write.
func (t tracked) StageCommitIndex(index uint64) error {
	t.log.staged = index
	return nil
}

// GetCommitIndex implements raft.CommitTrackingLogStore. It keeps Raft from
// applying anything while it starts, which Raft 1.8.0 cannot do: it passes over
// the changes of its configuration on the way, and hangs when there are more
// entries than its queue holds. Committed has the index.
func (t tracked) GetCommitIndex() (uint64, error) { return 0, nil }

// Committed returns an index up to which the log on disk is known to be
// committed, 0 for none. It trails the true one by what Raft has learned since
// the last write, and never exceeds the log.
func (s *Stores) Committed() (uint64, error) { return s.log.committed() }

func (l *Log) committed() (uint64, error) {
	last, err := l.LastIndex()
	if err != nil {
		return 0, fmt.Errorf("last index: %w", err)
	}
	if last == 0 {
		return 0, nil
	}
	var entry raft.Log
	return l.read(last, &entry)
}
