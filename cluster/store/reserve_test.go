package store

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"
)

// crowded is a disk that has no room for some of the writes.
type crowded struct {
	raft.LogStore
	failures int
	err      error
}

func (c *crowded) StoreLogs(l []*raft.Log) error {
	if c.failures > 0 {
		c.failures--
		return c.err
	}
	return c.LogStore.StoreLogs(l)
}

const testReserve = 1 << 20

// openCrowded opens stores on a disk of which free bytes are free.
func openCrowded(t *testing.T, dir string, disk *crowded, free *uint64) *Stores {
	t.Helper()
	s, err := Open(dir, Options{
		Damaged: func(error) {}, Log: hclog.NewNullLogger(), Reserve: testReserve,
		Slow: func(l raft.LogStore) raft.LogStore {
			disk.LogStore = l
			return disk
		},
		Free: func(string) (uint64, bool) { return *free, true },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// An append that finds no room takes the reserve, and so do those after it: no
// block is asked of the disk for them.
func TestReserveTakesEntries(t *testing.T) {
	dir, disk, free := t.TempDir(), &crowded{}, uint64(1<<30)
	s := openCrowded(t, dir, disk, &free)
	if s.Short() {
		t.Fatal("a disk with room has no reserve")
	}
	if err := s.Log.StoreLogs(entries(1, 10)); err != nil {
		t.Fatal(err)
	}
	before := blocksOf(t, dir)
	free = 0
	disk.failures, disk.err = 1, fmt.Errorf("write: %w", syscall.ENOSPC)
	last := uint64(10)
	for range 100 {
		e := &raft.Log{Index: last + 1, Term: 3, Type: raft.LogCommand, Data: bytes.Repeat([]byte{7}, testReserve/200)}
		if err := s.Log.StoreLog(e); err != nil {
			t.Fatalf("entry %d: %v", e.Index, err)
		}
		last++
	}
	if !s.Short() || s.Watch.Full() {
		t.Errorf("short %v, full %v", s.Short(), s.Watch.Full())
	}
	if now := blocksOf(t, dir); now > before {
		t.Errorf("the file has grown from %d to %d blocks", before, now)
	}

	// Over a restart, as long as there is no room.
	for _, want := range []bool{true, false} {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if !want {
			free = 2 * testReserve
		}
		s = openCrowded(t, dir, disk, &free)
		if s.Short() != want {
			t.Errorf("with %d bytes free it is short: %v", free, s.Short())
		}
		if got, err := s.Log.LastIndex(); got != last || err != nil {
			t.Errorf("the log ends at %d, %v; want %d", got, err, last)
		}
	}
}

func TestReserveIsMadeAgain(t *testing.T) {
	disk, free := &crowded{}, uint64(0)
	s := openCrowded(t, t.TempDir(), disk, &free)
	if !s.Short() {
		t.Error("there is a reserve on a full disk")
	}
	disk.failures, disk.err = 1, syscall.EDQUOT
	if err := s.Log.StoreLogs(entries(1, 1)); !errors.Is(err, ErrFull) || !s.Watch.Full() {
		t.Errorf("without a reserve: %v, full %v", err, s.Watch.Full())
	}
	for _, x := range []struct {
		free  uint64
		short bool
	}{{2*testReserve - 1, true}, {2 * testReserve, false}} {
		free = x.free
		if err := s.Refill(); err != nil || s.Short() != x.short {
			t.Errorf("with %d bytes free: short %v, %v", free, s.Short(), err)
		}
	}
	disk.failures = 1
	if err := s.Log.StoreLogs(entries(1, 1)); err != nil || !s.Short() {
		t.Errorf("with a reserve: %v, short %v", err, s.Short())
	}
}

// blocksOf returns how many blocks the log's file has.
func blocksOf(t *testing.T, dir string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, logFile), &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks
}

// What bolt says when it cannot grow its file.
func TestErrorsInWords(t *testing.T) {
	for err, want := range map[error]struct{ full, failed bool }{
		errors.New("file resize error: " + syscall.ENOSPC.Error()): {full: true},
		errors.New("file sync error: " + syscall.EIO.Error()):      {failed: true},
		syscall.EROFS: {failed: true},
	} {
		w := NewWatch()
		_ = w.write(func() error { return err })
		if IsFull(err) != want.full || (w.Failed() != nil) != want.failed {
			t.Errorf("%v: full %v, failed %v", err, IsFull(err), w.Failed())
		}
	}
}
