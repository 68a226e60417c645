package store

import (
	"encoding/binary"
	"errors"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
)

func stage(t *testing.T, s *Stores, index uint64) {
	t.Helper()
	if err := s.Log.(raft.CommitTrackingLogStore).StageCommitIndex(index); err != nil {
		t.Fatal(err)
	}
}

func TestCommitIndexIsDurable(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	want := func(want uint64, when string) {
		t.Helper()
		got, err := s.Committed()
		if err != nil || got != want {
			t.Fatalf("%s: committed %d, %v; want %d", when, got, err, want)
		}
	}
	store := func(from, to uint64) {
		t.Helper()
		if err := s.Log.StoreLogs(entries(from, to)); err != nil {
			t.Fatal(err)
		}
	}
	reopen := func() {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir)
	}
	want(0, "in an empty log")
	store(1, 10)
	want(0, "nothing was staged")
	stage(t, s, 8)
	want(0, "staged, not written")
	reopen()
	want(0, "staged, not written, restarted")
	stage(t, s, 8)
	store(11, 12)
	want(8, "written with the entries")
	stage(t, s, 13)
	store(13, 15)
	reopen()
	want(13, "after a restart")
	if got, err := s.Log.(raft.CommitTrackingLogStore).GetCommitIndex(); err != nil || got != 0 {
		t.Fatalf("Raft is told %d, %v; it would apply entries while it starts", got, err)
	}

	if err := s.Log.DeleteRange(14, 15); err != nil {
		t.Fatal(err)
	}
	want(13, "the uncommitted tail was replaced")
	stage(t, s, 99) // of a leader whose log is longer
	store(14, 14)
	want(14, "never beyond the log")
	if err := s.Log.DeleteRange(1, 12); err != nil {
		t.Fatal(err)
	}
	want(14, "the log was compacted")
	if err := s.Log.DeleteRange(13, 14); err != nil {
		t.Fatal(err)
	}
	want(0, "a snapshot was installed, the log is clear")
	store(21, 22)
	want(22, "entries behind a snapshot")
}

// Entries that were written before the commit index was kept stay readable.
func TestEntriesWithoutACommitIndex(t *testing.T) {
	dir := t.TempDir()
	bolt, err := openBolt(filepath.Join(dir, logFile), false)
	if err != nil {
		t.Fatal(err)
	}
	old := entries(1, 2)
	for _, e := range old {
		e.Extensions = binary.BigEndian.AppendUint64(nil, sum(e))
	}
	if err := bolt.StoreLogs(old); err != nil {
		t.Fatal(err)
	}
	if err := bolt.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	if got, err := s.Committed(); err != nil || got != 0 {
		t.Fatalf("committed %d, %v", got, err)
	}
	var got raft.Log
	if err := s.Log.GetLog(2, &got); err != nil || got.Extensions != nil || string(got.Data) != string(old[1].Data) {
		t.Fatalf("%+v, %v", got, err)
	}
}

// A log that a snapshot has replaced, and that Raft could not clear for want of
// room, goes with the first append behind the snapshot.
func TestAppendBehindASnapshotLeavesNoHole(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for _, batch := range [][]*raft.Log{entries(1, 5), entries(9, 10), entries(11, 12), entries(12, 13)} {
		if err := s.Log.StoreLogs(batch); err != nil {
			t.Fatal(err)
		}
	}
	check := func() {
		t.Helper()
		first, _ := s.Log.FirstIndex()
		last, _ := s.Log.LastIndex()
		if first != 9 || last != 13 {
			t.Errorf("the log has %d to %d", first, last)
		}
		if err := s.Log.GetLog(5, &raft.Log{}); !errors.Is(err, raft.ErrLogNotFound) {
			t.Errorf("an entry that was replaced: %v", err)
		}
	}
	check()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	check()
}
