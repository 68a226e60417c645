package store

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Files below the data directory.
const (
	logFile    = "raft.db"
	stableFile = "vote.db"
)

const (
	// stableBytes is what the preallocated stable store occupies for ever.
	stableBytes = 256 << 10
	// cachedEntries is how many of the newest entries stay in memory.
	cachedEntries = 512
	// retainedSnapshots: the newest and one to fall back to.
	retainedSnapshots = 2
	// lockTimeout is how long another process may hold the files.
	lockTimeout = 2 * time.Second
)

// Stores are all that Raft needs of a disk.
type Stores struct {
	Log       raft.LogStore
	Stable    raft.StableStore
	Snapshots raft.SnapshotStore
	Watch     *Watch

	log       *Log
	snapshots *snapshots
	options   Options
	closer    func() error
}

// Options of Open.
type Options struct {
	// Damaged is told when an entry turns out to be damaged later on.
	Damaged func(error)
	Log     hclog.Logger
	// Slow wraps the log store below the watch; tests make disks slow by it.
	Slow func(raft.LogStore) raft.LogStore
	// Files opens what keeps log and vote in dir; nil: two bolt files.
	Files Files
	// Reserve is how many bytes are kept for appends to a full disk; 0: 8 MiB.
	Reserve int
	// Ahead is how many bytes the log's file is written out to before it is used,
	// where the disk has room for four times as much; 0: nothing.
	Ahead int64
	// Free tells, instead of the disk, how much of it is free; tests fill disks by it.
	Free func(dir string) (bytes uint64, ok bool)
}

// Files opens what the stores are kept in, and says how to close it.
type Files func(dir string) (raft.LogStore, raft.StableStore, func() error, error)

// Open opens or creates the stores in dir and verifies the log.
func Open(dir string, o Options) (_ *Stores, err error) {
	if o.Free == nil {
		o.Free = Free
	}
	s := &Stores{Watch: NewWatch(), options: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if o.Files == nil {
		o.Files = o.bolts
	}
	below, stable, closer, err := o.Files(dir)
	if err != nil {
		return nil, err
	}
	s.closer = closer
	s.Stable = NewStable(stable, s.Watch)
	room, keeps := below.(keeper)
	if o.Slow != nil {
		below = o.Slow(below)
	}
	logPath := filepath.Join(dir, logFile)
	log := NewLog(below, logPath, s.Watch, o.Damaged)
	if err := log.Verify(); err != nil {
		return nil, err
	}
	cache, err := raft.NewLogCache(cachedEntries, log)
	if err != nil {
		return nil, fmt.Errorf("cache %s: %w", logPath, err)
	}
	s.log, s.Log = log, tracked{cache, log}
	if keeps {
		if log.reserve, err = s.openReserve(dir, room); err != nil {
			return nil, err
		}
	}
	if s.snapshots, err = openSnapshots(dir, o.Log); err != nil {
		return nil, err
	}
	s.Snapshots = s.snapshots
	return s, SyncDir(dir)
}

// bolts opens or creates the two bolt files.
func (o Options) bolts(dir string) (_ raft.LogStore, _ raft.StableStore, _ func() error, err error) {
	logPath, stablePath := filepath.Join(dir, logFile), filepath.Join(dir, stableFile)
	for _, path := range []string{logPath, stablePath} {
		if err := intact(path); err != nil {
			return nil, nil, nil, err
		}
	}
	if free, ok := o.Free(dir); ok && free >= 4*uint64(o.Ahead) {
		if err := preallocate(logPath, o.Ahead, fill); err != nil && !IsFull(err) {
			return nil, nil, nil, err
		}
	}
	if err := preallocate(stablePath, stableBytes, allocate); err != nil {
		return nil, nil, nil, err
	}
	logs, err := openBolt(logPath, false)
	if err != nil {
		return nil, nil, nil, err
	}
	stable, err := openBolt(stablePath, false)
	if err != nil {
		return nil, nil, nil, errors.Join(err, logs.Close())
	}
	return logs, stable, func() error { return errors.Join(logs.Close(), stable.Close()) }, nil
}

// openReserve looks for the reserve in the log's file and makes it when there is
// room: a full disk keeps nobody from starting.
func (s *Stores) openReserve(dir string, file keeper) (*reserve, error) {
	r := &reserve{
		file: file, bytes: cmp.Or(s.options.Reserve, defaultReserve), free: func() (uint64, bool) { return s.options.Free(dir) },
	}
	if err := r.open(); err != nil {
		return nil, err
	}
	return r, r.fill(s.Watch)
}

// ErrInUse is the error of files that another process has open.
var ErrInUse = errors.New("another process has it open")

func openBolt(path string, readOnly bool) (*raftboltdb.BoltStore, error) {
	store, err := raftboltdb.New(raftboltdb.Options{
		Path: path,
		BoltOptions: &bbolt.Options{
			Timeout: lockTimeout, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, ReadOnly: readOnly,
		},
		MsgpackUseNewTimeFormat: true,
	})
	if err != nil {
		if errors.Is(err, bolterrors.ErrTimeout) {
			return nil, fmt.Errorf("open %s: %w", path, ErrInUse)
		}
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return store, nil
}

// Close closes the files. Nothing may use the stores any more.
func (s *Stores) Close() error {
	if s.closer == nil {
		return nil
	}
	err := s.closer()
	s.closer = nil
	return err
}

// preallocate makes a bolt file and gives it a size, once.
func preallocate(path string, size int64, give func(*os.File, int64) error) error {
	if info, err := os.Stat(path); size == 0 || err == nil && info.Size() >= size {
		return nil
	}
	store, err := openBolt(path, false)
	if err != nil {
		return err
	}
	if err := store.Close(); err != nil {
		return fmt.Errorf("close %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("preallocate: %w", err)
	}
	defer f.Close()
	if err := give(f, size); err != nil {
		return fmt.Errorf("preallocate %s: %w", path, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("preallocate: %w", err)
	}
	return nil
}

// SyncDir makes new names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}
