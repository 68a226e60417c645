package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/fsm"
)

// stageDir holds, below the data directory, a snapshot that does not count yet.
const stageDir = "recovery"

// Stage writes a snapshot where no node looks for one, and returns its id.
// What an earlier call has left goes.
func Stage(dir string, meta raft.SnapshotMeta, st *fsm.State) (id string, err error) {
	stage := filepath.Join(dir, stageDir)
	if err := os.RemoveAll(stage); err != nil {
		return "", fmt.Errorf("stage a snapshot: %w", err)
	}
	s, err := openSnapshots(stage, hclog.NewNullLogger())
	if err != nil {
		return "", err
	}
	_, trans := raft.NewInmemTransport("") // writes addresses down as they are
	sink, err := s.Create(raft.SnapshotVersionMax, meta.Index, meta.Term, meta.Configuration, meta.ConfigurationIndex, trans)
	if err != nil {
		return "", err
	}
	if err := st.WriteSnapshot(sink); err != nil {
		return "", errors.Join(err, sink.Cancel())
	}
	if err := sink.Close(); err != nil {
		return "", fmt.Errorf("close snapshot: %w", err)
	}
	return sink.ID(), errors.Join(SyncDir(stage), SyncDir(dir))
}

// Adopt makes a staged snapshot all that there is: the other snapshots and the
// log go. It may be called again after it was interrupted. The log goes last:
// it never lacks the snapshot that makes up for it.
func (s *Stores) Adopt(id string) error {
	dir := filepath.Dir(s.snapshots.dir)
	from, to := filepath.Join(dir, stageDir, snapshotDir, id), filepath.Join(s.snapshots.dir, id)
	if err := os.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("adopt a snapshot: %w", err)
	}
	if err := SyncDir(s.snapshots.dir); err != nil {
		return err
	}
	k := readKept(s.snapshots.dir, id)
	if k.Err == nil {
		_, k.Err = k.read()
	}
	if k.Err != nil {
		return fmt.Errorf("%s: the snapshot of a recovery does not hold: %w", k.Path, k.Err)
	}
	others, err := listKept(s.snapshots.dir)
	if err != nil {
		return err
	}
	for _, k := range others {
		if k.ID == id {
			continue
		}
		if err := os.RemoveAll(k.Path); err != nil {
			return fmt.Errorf("remove an old snapshot: %w", err)
		}
	}
	if err := SyncDir(s.snapshots.dir); err != nil {
		return err
	}
	if err := s.clear(); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(dir, stageDir))
}
