package store

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/fsm"
)

// Restore returns the state of the newest snapshot, nil when there is none;
// the log goes on from it. A damaged snapshot is passed over, and hidden from
// Raft, when the log reaches from the one before it to where the damaged one
// was: nothing is lost then. Else it is a *DamagedSnapshotError. Raft by
// itself would go on from the older one whatever the log has, and from nothing
// when only the metadata is damaged.
//
// It must be called before Raft starts.
func (s *Stores) Restore() (*fsm.State, error) {
	all, err := listKept(s.snapshots.dir)
	if err != nil {
		return nil, err
	}
	var newest *Kept // that is damaged
	for _, k := range all {
		if newest != nil && !s.covers(k.Index, newest) {
			break
		}
		var st *fsm.State
		if k.Err == nil {
			st, k.Err = k.read()
		}
		if errors.Is(k.Err, fsm.ErrNewerSnapshot) {
			return nil, fmt.Errorf("%s: %w", k.Path, k.Err)
		}
		if k.Err == nil {
			s.snapshots.holds(k)
			return st, s.follow(k)
		}
		if newest == nil {
			newest = k
		}
		s.options.Log.Error("a snapshot is damaged", "path", k.Path, "index", k.Index, "error", k.Err)
		s.snapshots.hide(k.ID)
	}
	switch {
	case newest == nil:
		return nil, s.follow(&Kept{})
	case s.covers(0, newest):
		return nil, nil
	}
	return nil, &DamagedSnapshotError{Path: newest.Path, Index: newest.Index, Cause: newest.Err.Error()}
}

// covers reports whether the log has every entry after an index up to where a
// damaged snapshot was, and has there what that one had.
func (s *Stores) covers(after uint64, damaged *Kept) bool {
	first, err := s.log.FirstIndex()
	if err != nil || first == 0 || first > after+1 {
		return false
	}
	var entry raft.Log
	return s.log.GetLog(damaged.Index, &entry) == nil && entry.Term == damaged.Term
}

// follow checks that the log goes on from a snapshot. One that ends before it,
// or has another entry in its place, is what an installed snapshot was to
// replace when the node crashed: kept, it would have a hole.
func (s *Stores) follow(k *Kept) error {
	first, err := s.log.FirstIndex()
	if err != nil {
		return fmt.Errorf("first index: %w", err)
	}
	if first == 0 {
		return nil
	}
	if first > k.Index+1 {
		return s.log.damage(k.Index+1, fmt.Sprintf("it begins at %d, the newest snapshot is of %d", first, k.Index))
	}
	last, err := s.log.LastIndex()
	if err != nil {
		return fmt.Errorf("last index: %w", err)
	}
	if last >= k.Index {
		if k.Index < first {
			return nil
		}
		var entry raft.Log
		if err := s.log.GetLog(k.Index, &entry); err != nil || entry.Term == k.Term {
			return err
		}
	}
	s.options.Log.Warn("clearing a log that a snapshot replaced", "snapshot", k.ID, "first", first, "last", last)
	return s.clear()
}

// clear empties the log in one write.
func (s *Stores) clear() error {
	first, err := s.Log.FirstIndex()
	if err != nil {
		return fmt.Errorf("first index: %w", err)
	}
	last, err := s.Log.LastIndex()
	if err != nil {
		return fmt.Errorf("last index: %w", err)
	}
	if last == 0 {
		return nil
	}
	if err := s.Log.DeleteRange(first, last); err != nil {
		return fmt.Errorf("clear the log: %w", err)
	}
	return nil
}
