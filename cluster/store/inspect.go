package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/fsm"
)

// Damage is something that is not as it was stored.
type Damage struct {
	File string
	// Index of the entry or snapshot, 0 where it is not about one.
	Index uint64
	// Offset of the entry in the file, 0 where it is not known.
	Offset int64
	Cause  string
	WayOut string
	// Spare: the node starts all the same and lacks nothing.
	Spare bool
}

// Inspection is what a directory's files say.
type Inspection struct {
	// Term is the current one, VotedFor the server that had the vote of VotedTerm.
	Term      uint64
	VotedTerm uint64
	VotedFor  string

	// First and Last index of the log, 0 when it is empty, and the last
	// entry's term.
	First, Last, LastTerm uint64
	// Committed is the last index that the disk knows to be committed.
	Committed uint64

	// Snapshots, newest first.
	Snapshots []*Kept
	// State is that of the newest snapshot that holds, At its index; nil and 0
	// without one.
	State *fsm.State
	At    uint64

	// Configuration is the newest of the log, else that of the snapshot.
	Configuration      raft.Configuration
	ConfigurationIndex uint64

	Damage []Damage
}

// maxDamage bounds what is told of a file that is wrong all over.
const maxDamage = 32

// Inspect reads the stores in a directory and changes nothing. Each entry that
// holds is handed to entry, in order, once the snapshots have been read.
// ErrInUse: a node has them open.
func Inspect(dir string, entry func(*Inspection, *raft.Log)) (*Inspection, error) {
	i := &Inspection{}
	stablePath, logPath := filepath.Join(dir, stableFile), filepath.Join(dir, logFile)
	for _, f := range []struct {
		path string
		read func(string) error
	}{
		{stablePath, i.readStable},
		{filepath.Join(dir, snapshotDir), i.readSnapshots},
		{logPath, func(path string) error { return i.readLog(path, entry) }},
	} {
		err := guarded(func() error { return f.read(f.path) })
		if errors.Is(err, ErrInUse) {
			return nil, err
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			i.damage(Damage{File: f.path, Cause: isMissing})
		case err != nil:
			i.damage(Damage{File: f.path, Cause: err.Error()})
		}
	}
	i.Committed = max(i.Committed, i.At)
	return i, nil
}

// Sound reports whether a node can start with what there is.
func (i *Inspection) Sound() bool {
	return !slices.ContainsFunc(i.Damage, func(d Damage) bool { return !d.Spare })
}

func (i *Inspection) damage(d Damage) {
	if d.WayOut == "" {
		d.WayOut = WayOut
	}
	if len(i.Damage) < maxDamage {
		i.Damage = append(i.Damage, d)
	}
}

// judge says of each damaged snapshot what it means, once the log is read.
// covered are those whose entry the log has.
func (i *Inspection) judge(covered map[*Kept]bool) {
	for _, k := range i.Snapshots {
		d := Damage{File: k.Path, Index: k.Index}
		switch {
		case k.Err == nil:
			continue
		case errors.Is(k.Err, fsm.ErrNewerSnapshot):
			d.WayOut = "start the newer binary"
		case k.Index <= i.At:
			d.Spare, d.WayOut = true, "none is needed: a newer snapshot holds, the next one takes its place"
		case covered[k] && i.First <= i.At+1:
			d.Spare, d.WayOut = true, "none is needed: the log makes up for it, the next snapshot takes its place"
		}
		d.Cause = k.Err.Error()
		i.damage(d)
	}
}

func (i *Inspection) readStable(path string) error {
	bolt, err := openBolt(path, true)
	if err != nil {
		return err
	}
	defer bolt.Close()
	s := NewStable(bolt, NewWatch())
	if i.Term, err = s.GetUint64([]byte("CurrentTerm")); err != nil && err.Error() != errNotFound.Error() {
		return fmt.Errorf("current term: %w", err)
	}
	var voted []byte
	if i.VotedTerm, voted, err = s.vote(); err != nil && err.Error() != errNotFound.Error() {
		return fmt.Errorf("vote: %w", err)
	}
	i.VotedFor = string(voted)
	return whole(path)
}

func (i *Inspection) readSnapshots(dir string) error {
	var err error
	if i.Snapshots, err = listKept(dir); err != nil {
		return err
	}
	for _, k := range i.Snapshots {
		var st *fsm.State
		if k.Err == nil {
			st, k.Err = k.read()
		}
		if k.Err == nil && i.State == nil {
			i.State, i.At = st, k.Index
			i.Configuration, i.ConfigurationIndex = k.Configuration, k.ConfigurationIndex
		}
	}
	return nil
}

func (i *Inspection) readLog(path string, each func(*Inspection, *raft.Log)) error {
	bolt, err := openBolt(path, true)
	if err != nil {
		return err
	}
	defer bolt.Close()
	log := NewLog(bolt, path, NewWatch(), func(error) {})
	if i.First, err = log.FirstIndex(); err != nil {
		return fmt.Errorf("first index: %w", err)
	}
	if i.Last, err = log.LastIndex(); err != nil {
		return fmt.Errorf("last index: %w", err)
	}
	covered := map[*Kept]bool{}
	defer func() { i.judge(covered) }()
	if i.First > i.At+1 {
		i.damage(Damage{
			File: path, Index: i.At + 1,
			Cause: fmt.Sprintf("it begins at index %d, the newest snapshot that holds is of %d", i.First, i.At),
		})
	}
	for at := i.First; at <= i.Last && at > 0; at++ {
		var entry raft.Log
		var damaged *DamagedError
		committed, err := log.read(at, &entry)
		switch {
		case errors.As(err, &damaged):
			i.damage(Damage{File: path, Index: at, Offset: offsetOf(path, at), Cause: damaged.Cause})
		case err != nil:
			return err
		default:
			i.LastTerm, i.Committed = entry.Term, max(i.Committed, committed)
			for _, k := range i.Snapshots {
				covered[k] = covered[k] || (k.Index == at && k.Term == entry.Term)
			}
			i.configure(path, &entry)
			each(i, &entry)
		}
	}
	return whole(path)
}

// configure notes a change of the membership.
func (i *Inspection) configure(path string, entry *raft.Log) {
	if entry.Type != raft.LogConfiguration || entry.Index <= i.ConfigurationIndex {
		return
	}
	err := guarded(func() error {
		i.Configuration, i.ConfigurationIndex = raft.DecodeConfiguration(entry.Data), entry.Index
		return nil
	})
	if err != nil {
		i.damage(Damage{File: path, Index: entry.Index, Cause: "it is no configuration"})
	}
}

const isMissing = "it is missing"

// Exists reports whether a directory has the log of a node that has run.
func Exists(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, logFile))
	return !errors.Is(err, fs.ErrNotExist)
}

// Complete checks that the files of a node that belongs to a cluster are
// there: made anew they would forget what it acknowledged and whom it voted for.
func Complete(dir string) error {
	for _, name := range []string{logFile, stableFile} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return &DamagedError{Path: path, Cause: isMissing}
		}
	}
	return nil
}
