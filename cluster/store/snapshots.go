package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// snapshots is raft.FileSnapshotStore with more care: the log is cut right
// behind a snapshot.
//
// That one syncs the files and, after the rename, the directory above; not the
// names inside of the snapshot's own directory. Lost after the log was cut,
// they would leave a gap between the snapshot before and the log. Nor does it
// look at what it has written; here a snapshot that does not read back fails,
// and is removed, before anything relies on it. And it leaves behind what it had
// no room to finish, so that a full disk would never get better.
type snapshots struct {
	*raft.FileSnapshotStore
	dir string

	mu sync.Mutex
	// damaged ones were found at the start; Raft does not hear of them.
	damaged map[string]bool
	// newest is the last one that was read whole.
	newest *Kept
	// unreadable says why that can no longer be handed to a follower.
	unreadable error
}

func openSnapshots(dir string, log hclog.Logger) (*snapshots, error) {
	// One more than wanted: one that turns out to be bad pushes none out.
	s, err := raft.NewFileSnapshotStoreWithLogger(dir, retainedSnapshots+1, log)
	if err != nil {
		return nil, fmt.Errorf("open snapshots in %s: %w", dir, err)
	}
	out := &snapshots{FileSnapshotStore: s, dir: filepath.Join(dir, snapshotDir), damaged: map[string]bool{}}
	return out, out.sweep("*")
}

// sweep removes unfinished snapshots whose names match; nobody writes them.
func (s *snapshots) sweep(pattern string) error {
	unfinished, err := filepath.Glob(filepath.Join(s.dir, pattern+tmpSuffix))
	for _, dir := range unfinished {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	if err != nil {
		return fmt.Errorf("remove unfinished snapshots: %w", err)
	}
	return nil
}

// List implements raft.SnapshotStore.
func (s *snapshots) List() ([]*raft.SnapshotMeta, error) {
	all, err := s.FileSnapshotStore.List()
	if err != nil {
		s.note(err)
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	s.missing(all)
	out := make([]*raft.SnapshotMeta, 0, len(all))
	for _, meta := range all {
		if !s.isDamaged(meta.ID) {
			out = append(out, meta)
		}
	}
	return out, nil
}

func (s *snapshots) isDamaged(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.damaged[id]
}

// hide keeps a damaged snapshot from Raft.
func (s *snapshots) hide(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.damaged[id] = true
}

// Create implements raft.SnapshotStore. Both files exist from here on.
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration, configurationIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	file, err := s.FileSnapshotStore.Create(version, index, term, configuration, configurationIndex, trans)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create snapshot: %w", err), s.sweep(fmt.Sprintf("%d-%d-*", term, index)))
	}
	if err := SyncDir(filepath.Join(s.dir, file.ID()+tmpSuffix)); err != nil {
		_ = file.Cancel() // the first error counts
		return nil, err
	}
	return &sink{SnapshotSink: file, store: s}, nil
}

// sink verifies what was written.
type sink struct {
	raft.SnapshotSink
	store  *snapshots
	closed bool
	err    error
}

// Close implements raft.SnapshotSink. It is called twice.
func (k *sink) Close() error {
	if k.closed {
		return k.err
	}
	k.closed = true
	if k.err = k.SnapshotSink.Close(); k.err == nil {
		k.err = k.store.verify(k.ID())
	} else {
		k.err = errors.Join(k.err, k.store.sweep(k.ID()))
	}
	return k.err
}

// Cancel implements raft.SnapshotSink.
func (k *sink) Cancel() error { return errors.Join(k.SnapshotSink.Cancel(), k.store.sweep(k.ID())) }

// verify reads a new snapshot back: it goes, or those that it replaces.
func (s *snapshots) verify(id string) error {
	sealed := sealMeta(filepath.Join(s.dir, id))
	k := readKept(s.dir, id)
	if k.Err = errors.Join(sealed, k.Err); k.Err == nil {
		_, k.Err = k.read()
	}
	if k.Err != nil {
		err := fmt.Errorf("the snapshot that was just written does not hold: %w", k.Err)
		return errors.Join(err, os.RemoveAll(k.Path), SyncDir(s.dir))
	}
	s.holds(k)
	return s.reap(id)
}

// reap removes what is older than the newest snapshot and the sound one before it.
func (s *snapshots) reap(newest string) error {
	all, err := listKept(s.dir)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(all, func(k *Kept) bool { return k.ID == newest })
	kept := 1
	for _, k := range all[at+1:] {
		if kept < retainedSnapshots && k.Err == nil && !s.isDamaged(k.ID) {
			kept++
			continue
		}
		if err := os.RemoveAll(k.Path); err != nil {
			return fmt.Errorf("remove an old snapshot: %w", err)
		}
	}
	return nil
}

// NewestSnapshot returns the index of the newest snapshot, 0 when there is none.
func (s *Stores) NewestSnapshot() (uint64, error) {
	all, err := s.Snapshots.List()
	if err != nil {
		return 0, fmt.Errorf("list snapshots: %w", err)
	}
	if len(all) == 0 {
		return 0, nil
	}
	return all[0].Index, nil
}

// DropSnapshotsBefore removes the snapshots below an index, if there is one at
// or above it.
func (s *Stores) DropSnapshotsBefore(index uint64) error {
	all, err := s.Snapshots.List() // the newest first
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	if len(all) == 0 || all[0].Index < index {
		return fmt.Errorf("no snapshot at index %d or above", index)
	}
	var errs []error
	for _, meta := range all[1:] {
		if meta.Index < index {
			errs = append(errs, os.RemoveAll(filepath.Join(s.snapshots.dir, meta.ID)))
		}
	}
	if len(all) > 1 {
		errs = append(errs, SyncDir(s.snapshots.dir))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("drop snapshots: %w", err)
	}
	return nil
}
