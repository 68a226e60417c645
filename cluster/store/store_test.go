package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

func open(t *testing.T, dir string) *Stores {
	t.Helper()
	s, err := Open(dir, Options{Damaged: func(error) {}, Log: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func entries(from, to uint64) []*raft.Log {
	var out []*raft.Log
	for i := from; i <= to; i++ {
		out = append(out, &raft.Log{Index: i, Term: 3, Type: raft.LogCommand, Data: []byte("some data of an entry"), AppendedAt: time.Now()})
	}
	return out
}

// edit changes the bolt file of a closed log.
func edit(t *testing.T, dir string, change func(logs *bbolt.Bucket) error) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, logFile), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(func(tx *bbolt.Tx) error { return change(tx.Bucket([]byte("logs"))) }); err != nil {
		t.Fatal(err)
	}
}

func key(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

func TestLogKeepsEntries(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	want := entries(1, 20)
	want[3].Extensions = []byte("ext")
	if err := s.Log.StoreLogs(want); err != nil {
		t.Fatal(err)
	}
	if want[0].Extensions != nil || string(want[3].Extensions) != "ext" {
		t.Fatal("storing changed the caller's entries")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	for _, w := range want {
		var got raft.Log
		if err := s.Log.GetLog(w.Index, &got); err != nil {
			t.Fatal(err)
		}
		if string(got.Data) != string(w.Data) || got.Term != w.Term || string(got.Extensions) != string(w.Extensions) || !got.AppendedAt.Equal(w.AppendedAt) {
			t.Errorf("entry %+v, want %+v", got, w)
		}
	}
	if err := s.Log.DeleteRange(1, 10); err != nil {
		t.Fatal(err)
	}
	var l raft.Log
	for _, index := range []uint64{10, 21} {
		if err := s.Log.GetLog(index, &l); !errors.Is(err, raft.ErrLogNotFound) {
			t.Errorf("entry %d outside of the log: %v", index, err)
		}
	}
}

func TestDamagedEntryIsNeverServed(t *testing.T) {
	for name, change := range map[string]func(*bbolt.Bucket) error{
		"a letter of the data": func(b *bbolt.Bucket) error {
			v := []byte(strings.Replace(string(b.Get(key(5))), "data", "dada", 1))
			return b.Put(key(5), v)
		},
		"an entry of another place": func(b *bbolt.Bucket) error { return b.Put(key(5), b.Get(key(6))) },
		"no entry":                  func(b *bbolt.Bucket) error { return b.Delete(key(5)) },
		"half an entry":             func(b *bbolt.Bucket) error { return b.Put(key(5), b.Get(key(5))[:9]) },
		"a bit of an entry": func(b *bbolt.Bucket) error {
			v := append([]byte{}, b.Get(key(5))...)
			v[len(v)/2] ^= 0x10
			return b.Put(key(5), v)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			if err := s.Log.StoreLogs(entries(1, 9)); err != nil {
				t.Fatal(err)
			}
			s.Close()
			edit(t, dir, change)
			_, err := Open(dir, Options{Damaged: func(error) {}, Log: hclog.NewNullLogger()})
			var damage *DamagedError
			if !errors.As(err, &damage) || damage.Index != 5 {
				t.Fatalf("open: %v", err)
			}
			for _, part := range []string{filepath.Join(dir, logFile), "index 5", "move the data directory aside"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q is not in: %v", part, err)
				}
			}
		})
	}
}

// Any changed bit of a stored entry is noticed, or changes nothing but the
// time of the append.
func TestAnyChangedBitIsNoticed(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	stage(t, s, 1)
	if err := s.Log.StoreLogs(entries(1, 1)); err != nil {
		t.Fatal(err)
	}
	s.Close()
	var good []byte
	edit(t, dir, func(b *bbolt.Bucket) error {
		good = append(good, b.Get(key(1))...)
		return nil
	})
	for bit := range len(good) * 8 {
		bad := append([]byte{}, good...)
		bad[bit/8] ^= 1 << (bit % 8)
		log := NewLog(fixed{bad}, "file", NewWatch(), func(error) {})
		var got raft.Log
		commit, err := log.read(1, &got)
		if err != nil {
			continue
		}
		if commit != 1 || string(got.Data) != "some data of an entry" || got.Index != 1 || got.Term != 3 || got.Type != raft.LogCommand || len(got.Extensions) > 0 {
			t.Fatalf("bit %d: served %+v", bit, got)
		}
	}
}

// fixed is a log store with one encoded entry.
type fixed struct{ value []byte }

func (f fixed) FirstIndex() (uint64, error)        { return 1, nil }
func (f fixed) LastIndex() (uint64, error)         { return 1, nil }
func (f fixed) StoreLog(*raft.Log) error           { return nil }
func (f fixed) StoreLogs([]*raft.Log) error        { return nil }
func (f fixed) DeleteRange(uint64, uint64) error   { return nil }
func (f fixed) GetLog(_ uint64, l *raft.Log) error { return decode(f.value, l) }

func TestLogClearsItselfOnInstall(t *testing.T) {
	s := open(t, t.TempDir())
	m, ok := s.Log.(raft.MonotonicLogStore)
	if !ok || !m.IsMonotonic() {
		t.Fatal("Raft would leave a divergent tail behind an installed snapshot")
	}
}

func TestVoteDoesNotTear(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	vote := func(term uint64, candidate string) {
		t.Helper()
		if err := s.Stable.SetUint64([]byte("LastVoteTerm"), term); err != nil {
			t.Fatal(err)
		}
		if candidate == "" {
			return
		}
		if err := s.Stable.Set([]byte("LastVoteCand"), []byte(candidate)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Stable.GetUint64([]byte("LastVoteTerm")); err == nil || err.Error() != "not found" {
		t.Fatalf("no vote yet: %v", err)
	}
	vote(5, "a")
	vote(6, "") // the crash comes between the two writes
	s.Close()
	s = open(t, dir)
	term, err := s.Stable.GetUint64([]byte("LastVoteTerm"))
	if err != nil || term != 5 {
		t.Errorf("term %d, %v", term, err)
	}
	candidate, err := s.Stable.Get([]byte("LastVoteCand"))
	if err != nil || string(candidate) != "a" {
		t.Errorf("candidate %q, %v", candidate, err)
	}
	vote(7, "b")
	if term, _ := s.Stable.GetUint64([]byte("LastVoteTerm")); term != 7 {
		t.Errorf("term %d", term)
	}
	if err := s.Stable.SetUint64([]byte("CurrentTerm"), 9); err != nil {
		t.Fatal(err)
	}
	if term, _ := s.Stable.GetUint64([]byte("CurrentTerm")); term != 9 {
		t.Errorf("current term %d", term)
	}
}

// A node that crashed in the middle of a vote is asked again, by the candidate
// of its last whole vote, whose log is stale. With the two halves in two
// writes it would take its old vote for one of the new term.
func TestCrashInAVoteGivesNoSecondVote(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.Log.StoreLogs([]*raft.Log{{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{
		{ID: "self", Address: "self"}, {ID: "stale", Address: "stale"}, {ID: "other", Address: "other"},
	}})}, {Index: 2, Term: 4, Type: raft.LogNoop}}); err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]uint64{"CurrentTerm": 6, "LastVoteTerm": 5} {
		if err := s.Stable.SetUint64([]byte(k), v); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Stable.Set([]byte("LastVoteCand"), []byte("stale")); err != nil {
		t.Fatal(err)
	}
	if err := s.Stable.SetUint64([]byte("LastVoteTerm"), 6); err != nil { // crash
		t.Fatal(err)
	}
	s.Close()
	s = open(t, dir)

	_, trans := raft.NewInmemTransport("self")
	_, peer := raft.NewInmemTransport("stale")
	peer.Connect("self", trans)
	conf := raft.DefaultConfig()
	conf.LocalID, conf.Logger = "self", hclog.NewNullLogger()
	conf.HeartbeatTimeout, conf.ElectionTimeout = time.Minute, time.Minute
	r, err := raft.NewRaft(conf, &raft.MockFSM{}, s.Log, s.Stable, s.Snapshots, trans)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Shutdown().Error(); err != nil {
			t.Error(err)
		}
	}()
	var resp raft.RequestVoteResponse
	err = peer.RequestVote("self", "self", &raft.RequestVoteRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte("stale"), Addr: []byte("stale")},
		Term:      6, LastLogIndex: 1, LastLogTerm: 1,
	}, &resp)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Granted {
		t.Error("voted for a candidate with a stale log")
	}
}

func TestStableStoreIsPreallocated(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	blocks := func() int64 {
		info, err := os.Stat(filepath.Join(dir, stableFile))
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Blocks * 512
	}
	before := blocks()
	if before < stableBytes {
		t.Fatalf("%d bytes on disk", before)
	}
	for term := range uint64(200) {
		if err := s.Stable.SetUint64([]byte("CurrentTerm"), term); err != nil {
			t.Fatal(err)
		}
		if err := s.Stable.SetUint64([]byte("LastVoteTerm"), term); err != nil {
			t.Fatal(err)
		}
		if err := s.Stable.Set([]byte("LastVoteCand"), []byte("node-1/0123456789@some.quite.long.host.name.example.org:7000")); err != nil {
			t.Fatal(err)
		}
	}
	if after := blocks(); after != before {
		t.Errorf("elections took %d bytes of disk", after-before)
	}
}

func TestWatchSeesAHangingWrite(t *testing.T) {
	w := NewWatch()
	if w.Hanging() != 0 {
		t.Fatal("nothing hangs yet")
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_ = w.write(func() error { <-stop; return nil })
	}()
	time.Sleep(50 * time.Millisecond)
	if h := w.Hanging(); h < 40*time.Millisecond {
		t.Errorf("hanging for %s", h)
	}
	close(stop)
	<-done
	if w.Hanging() != 0 {
		t.Error("still hanging")
	}
}

func TestNothingIsWrittenAfterAnIOError(t *testing.T) {
	w := NewWatch()
	if err := w.write(func() error { return syscall.ENOSPC }); err == nil || w.Failed() != nil {
		t.Fatalf("a full disk is no failed disk: %v, %v", err, w.Failed())
	}
	if err := w.write(func() error { return &os.PathError{Op: "write", Err: syscall.EIO} }); err == nil || w.Failed() == nil {
		t.Fatalf("%v, %v", err, w.Failed())
	}
	if err := w.write(func() error { t.Error("written"); return nil }); err == nil {
		t.Error("no error")
	}
}

func TestTwoProcessesDoNotShareADisk(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	_, err := Open(dir, Options{Damaged: func(error) {}, Log: hclog.NewNullLogger()})
	if err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("%v", err)
	}
}

func TestTruncatedFileIsRefused(t *testing.T) {
	for _, count := range []uint64{1, 2000} { // one: most of the file is the reserve
		for _, eighths := range []int64{1, 3, 5, 7} {
			t.Run(fmt.Sprint(count, " entries, ", eighths, " eighths"), func(t *testing.T) {
				dir := t.TempDir()
				s := open(t, dir)
				if err := s.Log.StoreLogs(entries(1, count)); err != nil {
					t.Fatal(err)
				}
				s.Close()
				path := filepath.Join(dir, logFile)
				if err := os.Truncate(path, usedOf(t, path)*eighths/8); err != nil {
					t.Fatal(err)
				}
				_, err := Open(dir, Options{Damaged: func(error) {}, Log: hclog.NewNullLogger()})
				var damage *DamagedError
				if !errors.As(err, &damage) || damage.Path != path {
					t.Errorf("open: %v", err)
				}
				i, err := Inspect(dir, func(*Inspection, *raft.Log) {})
				if err != nil || i.Sound() {
					t.Errorf("doctor finds %+v, %v", i, err)
				}
			})
		}
	}
}

// usedOf is how much of a bolt file is in use; it may be larger.
func usedOf(t *testing.T, path string) (size int64) {
	t.Helper()
	db, err := bbolt.Open(path, 0, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.View(func(tx *bbolt.Tx) error {
		size = tx.Size()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return size
}

// Raft writes its term when it starts, and panics if it cannot: on a disk that
// has failed it would never come to leave.
func TestTermThatIsThereIsNotWritten(t *testing.T) {
	below, watch := raft.NewInmemStore(), NewWatch()
	term := []byte("CurrentTerm")
	if err := NewStable(below, watch).SetUint64(term, 5); err != nil {
		t.Fatal(err)
	}
	if err := watch.write(func() error { return syscall.EIO }); err == nil {
		t.Fatal("the disk has not failed")
	}
	s := NewStable(below, watch)
	done := make(chan error, 2)
	go func() { done <- s.SetUint64(term, 5) }()
	if err := <-done; err != nil {
		t.Error(err)
	}
	go func() { done <- s.SetUint64(term, 6) }()
	select {
	case err := <-done:
		t.Errorf("another term on a failed disk: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	watch.Release()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got, err := s.GetUint64(term); err != nil || got != 5 {
		t.Errorf("term %d, %v", got, err)
	}
}
