package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// snapshots is raft.FileSnapshotStore with one more sync. That one syncs the
// files and, after the rename, the directory above; not the names inside of
// the snapshot's own directory. Lost after the log was cut, they would leave a
// gap between the snapshot before and the log.
type snapshots struct {
	*raft.FileSnapshotStore
	dir string
}

func openSnapshots(dir string, log hclog.Logger) (*snapshots, error) {
	s, err := raft.NewFileSnapshotStoreWithLogger(dir, retainedSnapshots, log)
	if err != nil {
		return nil, fmt.Errorf("open snapshots in %s: %w", dir, err)
	}
	return &snapshots{FileSnapshotStore: s, dir: filepath.Join(dir, "snapshots")}, nil
}

// Create implements raft.SnapshotStore. Both files exist from here on.
func (s *snapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration, configurationIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.FileSnapshotStore.Create(version, index, term, configuration, configurationIndex, trans)
	if err != nil {
		return nil, fmt.Errorf("create snapshot: %w", err)
	}
	if err := syncDir(filepath.Join(s.dir, sink.ID()+".tmp")); err != nil {
		_ = sink.Cancel() // the first error counts
		return nil, err
	}
	return sink, nil
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
			errs = append(errs, os.RemoveAll(filepath.Join(s.snapshotDir, meta.ID)))
		}
	}
	if len(all) > 1 {
		errs = append(errs, syncDir(s.snapshotDir))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("drop snapshots: %w", err)
	}
	return nil
}
