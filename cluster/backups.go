package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/org/envoy-control-plane/cluster/store"
	"github.com/org/envoy-control-plane/fsm"
)

// backupsDir holds backups that a log entry may ask for, below the data
// directory. A file is named after its SHA-256.
const backupsDir = "backups"

// checksum is the SHA-256 of a backup.
type checksum [sha256.Size]byte

func (c checksum) String() string { return hex.EncodeToString(c[:]) }

// parseChecksum takes 64 hexadecimal digits.
func parseChecksum(s string) (checksum, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != sha256.Size {
		return checksum{}, fmt.Errorf("%q is not a SHA-256", s)
	}
	return checksum(b), nil
}

// checksumOf takes the bytes of a SHA-256; others are none.
func checksumOf(b []byte) (sum checksum, ok bool) {
	if len(b) != len(sum) {
		return sum, false
	}
	return checksum(b), true
}

// backups are those on this node's disk.
type backups struct {
	dir string

	mu sync.Mutex
	// last is the state of the backup that was read last, so that Apply need
	// not read it.
	last     *fsm.State
	lastName checksum
}

func newBackups(dataDir string) *backups { return &backups{dir: filepath.Join(dataDir, backupsDir)} }

// add stores a backup once all of it is verified.
func (b *backups) add(r io.Reader) (checksum, *fsm.State, error) {
	if err := os.MkdirAll(b.dir, 0o750); err != nil {
		return checksum{}, nil, fmt.Errorf("store backup: %w", err)
	}
	f, err := os.CreateTemp(b.dir, "incoming.*")
	if err != nil {
		return checksum{}, nil, fmt.Errorf("store backup: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	sum, st, err := fsm.ReadBackup(io.TeeReader(r, f))
	if err != nil {
		return checksum{}, nil, err
	}
	if err := f.Sync(); err != nil {
		return checksum{}, nil, fmt.Errorf("store backup: %w", err)
	}
	if err := os.Rename(f.Name(), b.path(sum)); err != nil {
		return checksum{}, nil, fmt.Errorf("store backup: %w", err)
	}
	b.remember(sum, st)
	return sum, st, store.SyncDir(b.dir)
}

func (b *backups) path(sum checksum) string { return filepath.Join(b.dir, sum.String()) }

func (b *backups) remember(sum checksum, st *fsm.State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last, b.lastName = st, sum
}

// state returns what a backup holds; fs.ErrNotExist when it is not here.
func (b *backups) state(sum checksum) (*fsm.State, error) {
	b.mu.Lock()
	last, name := b.last, b.lastName
	b.mu.Unlock()
	if last != nil && name == sum {
		return last, nil
	}
	f, err := os.Open(b.path(sum))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := fsm.ReadSnapshot(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	b.remember(sum, st)
	return st, nil
}

// has reports whether a backup is here.
func (b *backups) has(sum checksum) bool {
	_, err := os.Stat(b.path(sum))
	return err == nil
}

// prune removes all but some, and what was left half stored.
func (b *backups) prune(keep map[checksum]bool) error {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("look through backups: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if sum, err := parseChecksum(e.Name()); err != nil || !keep[sum] {
			errs = append(errs, os.Remove(filepath.Join(b.dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
