package store

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft"
)

// A snapshot that turns bad while the node runs is noticed when Raft wants to
// send it. Raft itself only tries again for ever.

// Unreadable returns why the newest snapshot can no longer be read, nil while
// that is not known. A new snapshot makes up for it.
func (s *Stores) Unreadable() error {
	s.snapshots.mu.Lock()
	defer s.snapshots.mu.Unlock()
	return s.snapshots.unreadable
}

// Open implements raft.SnapshotStore. It reads the snapshot whole.
func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, body, err := s.FileSnapshotStore.Open(id)
	if err != nil {
		err = fmt.Errorf("%s: %w", filepath.Join(s.dir, id), err)
		s.note(err)
	}
	return meta, body, err
}

// missing notes that the newest snapshot is not among those that can be listed:
// Raft would send an older one, which the log does not go on from.
func (s *snapshots) missing(all []*raft.SnapshotMeta) {
	s.mu.Lock()
	newest := s.newest
	s.mu.Unlock()
	if newest != nil && !slices.ContainsFunc(all, func(m *raft.SnapshotMeta) bool { return m.ID == newest.ID }) {
		s.note(fmt.Errorf("%s is not there, or its metadata cannot be read", newest.Path))
	}
}

func (s *snapshots) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unreadable == nil {
		s.unreadable = err
	}
}

// holds notes a snapshot that was read whole.
func (s *snapshots) holds(k *Kept) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.newest == nil || k.Index >= s.newest.Index {
		s.newest, s.unreadable = k, nil
	}
}
