package store

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/fsm"
)

// What raft.FileSnapshotStore makes: a directory for each snapshot, named
// <term>-<index>-<milliseconds>, with two files. The third is ours: the
// metadata has the checksum of the state and none of its own, and a changed
// letter in it could be another membership.
const (
	snapshotDir  = "snapshots"
	snapshotMeta = "meta.json"
	snapshotBody = "state.bin"
	snapshotSum  = "meta.sum"
	// tmpSuffix is behind the name of a snapshot that is being written.
	tmpSuffix = ".tmp"
)

// Kept is a snapshot on disk. Without readable metadata it has the index and
// term that its directory's name says.
type Kept struct {
	raft.SnapshotMeta
	// Path of its directory.
	Path string
	// Err says why it does not hold, as far as anybody has looked.
	Err error

	crc []byte
}

// A DamagedSnapshotError is a snapshot that is not what was stored, and that
// the log does not make up for.
type DamagedSnapshotError struct {
	Path  string
	Index uint64
	Cause string
}

func (e *DamagedSnapshotError) Error() string {
	return fmt.Sprintf("%s: the snapshot at index %d is damaged (%s): %s", e.Path, e.Index, e.Cause, WayOut)
}

// listKept returns the snapshots below a directory, newest first. It changes
// nothing; what is being written is left out.
func listKept(dir string) ([]*Kept, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	var out []*Kept
	for _, e := range entries {
		k := readKept(dir, e.Name())
		if e.IsDir() && !strings.HasSuffix(e.Name(), tmpSuffix) && k.Index > 0 {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b *Kept) int {
		if c := compareLast(b.Term, b.Index, a.Term, a.Index); c != 0 {
			return c
		}
		return strings.Compare(b.ID, a.ID)
	})
	return out, nil
}

// readKept reads what a snapshot says of itself.
func readKept(dir, name string) *Kept {
	k := &Kept{Path: filepath.Join(dir, name)}
	var meta struct {
		raft.SnapshotMeta
		CRC []byte
	}
	raw, err := os.ReadFile(filepath.Join(k.Path, snapshotMeta))
	if err == nil {
		err = errors.Join(checkMeta(k.Path, raw), json.Unmarshal(raw, &meta))
	}
	if err == nil && meta.ID != name {
		err = fmt.Errorf("it says that it is %q", meta.ID)
	}
	if err != nil {
		k.ID, k.Err = name, fmt.Errorf("%s: %w", snapshotMeta, err)
		_, _ = fmt.Sscanf(name, "%d-%d-", &k.Term, &k.Index) // 0 where it is none of ours
		return k
	}
	k.SnapshotMeta, k.crc = meta.SnapshotMeta, meta.CRC
	return k
}

// sealMeta writes the checksum of a new snapshot's metadata.
func sealMeta(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, snapshotMeta))
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, snapshotSum))
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(metaSum(raw)); err != nil {
		return err
	}
	return errors.Join(f.Sync(), SyncDir(dir))
}

// checkMeta compares metadata with its checksum. Snapshots of before there was
// one have none, nor has one whose node crashed just before it was written.
func checkMeta(dir string, raw []byte) error {
	want, err := os.ReadFile(filepath.Join(dir, snapshotSum))
	if errors.Is(err, fs.ErrNotExist) || (err == nil && len(want) == 0) {
		return nil
	}
	if err == nil && string(want) != metaSum(raw) {
		err = errors.New("its checksum does not match")
	}
	return err
}

func metaSum(raw []byte) string { return fmt.Sprintf("%016x", xxhash.Sum64(raw)) }

// read returns the state in a snapshot, if all of it holds.
func (k *Kept) read() (*fsm.State, error) {
	f, err := os.Open(filepath.Join(k.Path, snapshotBody))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sum := crc64.New(crc64.MakeTable(crc64.ECMA))
	body := io.TeeReader(f, sum)
	st, failure := fsm.ReadSnapshot(body)
	if _, err := io.Copy(io.Discard, body); err != nil {
		return nil, fmt.Errorf("%s: %w", snapshotBody, err)
	}
	if !bytes.Equal(sum.Sum(nil), k.crc) {
		return nil, fmt.Errorf("%s: its checksum does not match", snapshotBody)
	}
	if failure != nil {
		return nil, fmt.Errorf("%s: %w", snapshotBody, failure)
	}
	if st.Index() > k.Index {
		return nil, fmt.Errorf("%s: it holds the state of index %d", snapshotBody, st.Index())
	}
	return st, nil
}

// compareLast orders logs by their last term and index, as Raft's votes do.
func compareLast(term, index, otherTerm, otherIndex uint64) int {
	return cmp.Or(cmp.Compare(term, otherTerm), cmp.Compare(index, otherIndex))
}
