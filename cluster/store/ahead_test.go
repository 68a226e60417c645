package store

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"
)

const testAhead = 4 << 20

// openAhead opens stores whose log is written ahead, on a disk of which free
// bytes are free.
func openAhead(t *testing.T, dir string, free uint64) *Stores {
	t.Helper()
	s, err := Open(dir, Options{
		Damaged: func(error) {}, Log: hclog.NewNullLogger(), Reserve: testReserve, Ahead: testAhead,
		Free: func(string) (uint64, bool) { return free, true },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// occupied is how long the log's file is, and what it occupies of the disk.
func occupied(t *testing.T, dir string) (size, blocks int64) {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, logFile))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size(), info.Sys().(*syscall.Stat_t).Blocks * 512
}

// Entries go into blocks that the log's file has from its first day on.
func TestLogIsWrittenAhead(t *testing.T) {
	dir := t.TempDir()
	s := openAhead(t, dir, 1<<30)
	size, blocks := occupied(t, dir)
	if size < testAhead || blocks < testAhead {
		t.Fatalf("%d bytes in %d of the disk, %d were wanted", size, blocks, testAhead)
	}
	put(t, s, 1, 2000)
	if now, of := occupied(t, dir); now != size || of != blocks {
		t.Errorf("%d bytes in %d of the disk after some entries; there were %d in %d", now, of, size, blocks)
	}
}

// A log of before that is shorter keeps what it has.
func TestOldLogIsWrittenAhead(t *testing.T) {
	dir := t.TempDir()
	put(t, openAhead(t, dir, 4*testAhead-1), 1, 10)
	before, _ := occupied(t, dir)
	s := openAhead(t, dir, 1<<30)
	if last, err := s.Log.LastIndex(); err != nil || last != 10 {
		t.Errorf("the last entry is %d: %v", last, err)
	}
	if size, _ := occupied(t, dir); before >= testAhead || size < testAhead {
		t.Errorf("%d bytes, then %d", before, size)
	}
	put(t, s, 11, 2000)
	put(t, openAhead(t, dir, 1<<30), 2001, 2010) // all of it is verified
}

// A disk that is nearly full is not filled up.
func TestLogIsNotWrittenAheadOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	put(t, openAhead(t, dir, 4*testAhead-1), 1, 10)
	if size, _ := occupied(t, dir); size >= testAhead {
		t.Errorf("%d bytes were written", size)
	}
}

// put stores entries and closes the stores.
func put(t *testing.T, s *Stores, from, to uint64) {
	t.Helper()
	if err := s.Log.StoreLogs(entries(from, to)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
