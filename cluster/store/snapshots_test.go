package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc64"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// stateAt returns a state with a tenant for each index.
func stateAt(index uint64) *fsm.State {
	st := fsm.New()
	for i := range index {
		st, _, _ = st.Apply(i+1, &fsmpb.Entry{Commands: []*fsmpb.Command{
			{Op: &fsmpb.Command_PutTenant{PutTenant: &fsmpb.PutTenant{Name: fmt.Sprintf("t%d", i+1)}}},
		}})
	}
	return st
}

// create begins a snapshot in term 3, as entries are.
func create(t *testing.T, s *Stores, index uint64) raft.SnapshotSink {
	t.Helper()
	_, trans := raft.NewInmemTransport("")
	sink, err := s.Snapshots.Create(raft.SnapshotVersionMax, index, 3, raft.Configuration{}, 1, trans)
	if err != nil {
		t.Fatal(err)
	}
	return sink
}

func take(t *testing.T, s *Stores, index uint64) (id string) {
	t.Helper()
	sink := create(t, s, index)
	if err := errors.Join(stateAt(index).WriteSnapshot(sink), sink.Close(), sink.Close()); err != nil {
		t.Fatal(err)
	}
	return sink.ID()
}

func ids(t *testing.T, s *Stores) []string {
	t.Helper()
	all, err := s.Snapshots.List()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, meta := range all {
		out = append(out, meta.ID)
	}
	return out
}

// flip changes one bit in the middle of a snapshot's file.
func flip(t *testing.T, dir, id, name string) {
	t.Helper()
	path := filepath.Join(dir, snapshotDir, id, name)
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	body[len(body)/2] ^= 0x10
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSnapshotThatDoesNotHoldIsRemoved(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	one := take(t, s, 5)
	two := take(t, s, 9)
	for name, write := range map[string]func(raft.SnapshotSink) error{
		"noise":                func(k raft.SnapshotSink) error { _, err := k.Write([]byte("not a snapshot")); return err },
		"another, later state": func(k raft.SnapshotSink) error { return stateAt(30).WriteSnapshot(k) },
		"changed behind its back": func(k raft.SnapshotSink) error {
			err := stateAt(20).WriteSnapshot(k)
			f := k.(*sink).SnapshotSink
			k.(*sink).SnapshotSink = later{f, func() { flip(t, dir, k.ID(), snapshotBody) }}
			return err
		},
	} {
		k := create(t, s, 20)
		if err := write(k); err != nil {
			t.Fatal(err)
		}
		err := k.Close()
		if err == nil || !strings.Contains(err.Error(), "does not hold") {
			t.Errorf("%s: %v", name, err)
		}
		if err := k.Close(); err == nil {
			t.Errorf("%s: closed again, it is well", name)
		}
		if got := ids(t, s); len(got) != 2 || got[0] != two || got[1] != one {
			t.Errorf("%s: %v is left of %s, %s", name, got, two, one)
		}
		if _, err := os.Stat(filepath.Join(dir, snapshotDir, k.ID())); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: its files: %v", name, err)
		}
	}
	three := take(t, s, 12)
	if got := ids(t, s); len(got) != 2 || got[0] != three || got[1] != two {
		t.Errorf("%v is left of %s, %s", got, three, two)
	}
}

// What there was no room to finish must not fill the disk for ever.
func TestUnfinishedSnapshotsAreRemoved(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	one := take(t, s, 5)
	for name, end := range map[string]func(k *sink, tmp string) error{
		"no room for the metadata": func(k *sink, tmp string) error {
			meta := filepath.Join(tmp, snapshotMeta)
			return errors.Join(os.Remove(meta), os.Symlink("/dev/full", meta), k.Close())
		},
		"no room for the state": func(k *sink, _ string) error {
			k.SnapshotSink = stuck{k.SnapshotSink}
			return k.Cancel()
		},
	} {
		k := create(t, s, 20).(*sink)
		tmp := filepath.Join(dir, snapshotDir, k.ID()+tmpSuffix)
		if _, err := os.Stat(tmp); err != nil {
			t.Fatal(err)
		}
		if err := end(k, tmp); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(tmp); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: it is still there: %v", name, err)
		}
	}
	left := create(t, s, 20) // by a crash
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if _, err := os.Stat(filepath.Join(dir, snapshotDir, left.ID()+tmpSuffix)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after a crash it is still there: %v", err)
	}
	if got := ids(t, s); len(got) != 1 || got[0] != one {
		t.Errorf("%v is left of %s", got, one)
	}
}

// stuck cannot write the rest of its buffer, and leaves its files then.
type stuck struct{ raft.SnapshotSink }

func (stuck) Cancel() error { return syscall.ENOSPC }

// later does something behind the end of a snapshot.
type later struct {
	raft.SnapshotSink
	do func()
}

func (l later) Close() error {
	err := l.SnapshotSink.Close()
	l.do()
	return err
}

// Raft cuts its log only behind a snapshot that was read back: that of the
// mock machine is none of ours.
func TestLogIsNotCutBehindABadSnapshot(t *testing.T) {
	s := open(t, t.TempDir())
	_, trans := raft.NewInmemTransport("self")
	conf := raft.DefaultConfig()
	conf.LocalID, conf.Logger, conf.TrailingLogs = "self", hclog.NewNullLogger(), 1
	r, err := raft.NewRaft(conf, &raft.MockFSM{}, s.Log, s.Stable, s.Snapshots, trans)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Shutdown().Error(); err != nil {
			t.Error(err)
		}
	}()
	r.BootstrapCluster(raft.Configuration{Servers: []raft.Server{{ID: "self", Address: "self"}}})
	for deadline := time.Now().Add(20 * time.Second); r.State() != raft.Leader; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no leader")
		}
	}
	for range 10 {
		if err := r.Apply([]byte("x"), 0).Error(); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Snapshot().Error(); err == nil || !strings.Contains(err.Error(), "does not hold") {
		t.Errorf("snapshot: %v", err)
	}
	if first, err := s.Log.FirstIndex(); err != nil || first != 1 {
		t.Errorf("the log begins at %d, %v", first, err)
	}
	if got := ids(t, s); len(got) > 0 {
		t.Errorf("snapshots %v", got)
	}
}

// A damaged newest snapshot is made up for by the log or is an error; nothing
// in between.
func TestRestoreFallsBackOnlyWhereTheLogMakesUpForIt(t *testing.T) {
	for name, c := range map[string]struct {
		first, last uint64 // of the log
		damage      map[uint64]string
		missing     uint64 // snapshot that is not there at all
		index       uint64 // of the state, when there is one
		hidden      bool
		err         string
	}{
		"nothing is damaged":                       {first: 7, last: 12, index: 9},
		"the log is empty":                         {index: 9},
		"the older one is damaged":                 {first: 7, last: 12, damage: map[uint64]string{5: snapshotBody}, index: 9},
		"the log has all behind the older one":     {first: 6, last: 12, damage: map[uint64]string{9: snapshotBody}, index: 5, hidden: true},
		"the log just reaches":                     {first: 6, last: 9, damage: map[uint64]string{9: snapshotBody}, index: 5, hidden: true},
		"metadata, the log has all":                {first: 2, last: 12, damage: map[uint64]string{9: snapshotMeta}, index: 5, hidden: true},
		"the log has all there ever was":           {first: 1, last: 12, damage: map[uint64]string{5: snapshotBody, 9: snapshotBody}, hidden: true},
		"the log begins too late":                  {first: 7, last: 12, damage: map[uint64]string{9: snapshotBody}, err: "index 9 is damaged"},
		"the log ends too early":                   {first: 2, last: 8, damage: map[uint64]string{9: snapshotBody}, err: "index 9 is damaged"},
		"the log is empty, the newest is damaged":  {damage: map[uint64]string{9: snapshotBody}, err: "index 9 is damaged"},
		"metadata, the log is empty":               {damage: map[uint64]string{9: snapshotMeta}, err: "index 9 is damaged"},
		"metadata of both, the log is empty":       {damage: map[uint64]string{5: snapshotMeta, 9: snapshotMeta}, err: "index 9 is damaged"},
		"both are damaged, the log begins later":   {first: 2, last: 12, damage: map[uint64]string{5: snapshotBody, 9: snapshotBody}, err: "index 9 is damaged"},
		"the newest is gone, the log begins later": {first: 7, last: 12, missing: 9, err: "it begins at 7, the newest snapshot is of 5"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			if c.last > 0 {
				if err := s.Log.StoreLogs(entries(c.first, c.last)); err != nil {
					t.Fatal(err)
				}
			}
			for _, index := range []uint64{5, 9} {
				if index == c.missing {
					continue
				}
				id := take(t, s, index)
				if file, ok := c.damage[index]; ok {
					flip(t, dir, id, file)
				}
			}
			st, err := s.Restore()
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || !strings.Contains(err.Error(), "move the data directory aside") {
					t.Fatalf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if (st == nil) != (c.index == 0) || (st != nil && st.Index() != c.index) {
				t.Fatalf("%+v, want the state of %d", st, c.index)
			}
			if last, err := s.Log.LastIndex(); err != nil || last != c.last {
				t.Errorf("the log now ends at %d, %v", last, err)
			}
			// Raft must take the same one.
			listed, err := s.Snapshots.List()
			if err != nil {
				t.Fatal(err)
			}
			if c.index > 0 && listed[0].Index != c.index || c.index == 0 && len(listed) > 0 {
				t.Errorf("Raft is told of %v", listed)
			}
			id := take(t, s, 12)
			if got := ids(t, s); len(got) == 0 || got[0] != id {
				t.Errorf("the next snapshot %s is not the newest of %v", id, got)
			}
			if kept, err := listKept(filepath.Join(dir, snapshotDir)); err != nil || c.hidden && len(kept) > 2 {
				t.Errorf("the damaged one is still there: %v, %v", kept, err)
			}
		})
	}
}

func TestNewerSnapshotIsNoDamage(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.Log.StoreLogs(entries(1, 12)); err != nil {
		t.Fatal(err)
	}
	id := take(t, s, 9)
	forge(t, filepath.Join(dir, snapshotDir, id), &fsmpb.Header{Format: 99})
	if _, err := s.Restore(); !errors.Is(err, fsm.ErrNewerSnapshot) {
		t.Errorf("an older binary takes an older state: %v", err)
	}
}

// What a crash leaves between an installed snapshot and the clearing of the
// log that it replaced.
func TestReplacedLogIsCleared(t *testing.T) {
	for name, c := range map[string]struct {
		log  []*raft.Log
		kept bool
	}{
		"it ends before the snapshot":  {log: entries(1, 6)},
		"it has diverged":              {log: diverged(entries(1, 14))},
		"it goes on from the snapshot": {log: entries(4, 14), kept: true},
		"it begins behind it":          {log: entries(10, 14), kept: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			if err := s.Log.StoreLogs(c.log); err != nil {
				t.Fatal(err)
			}
			take(t, s, 9)
			if st, err := s.Restore(); err != nil || st.Index() != 9 {
				t.Fatalf("%v, %v", st, err)
			}
			if last, err := s.Log.LastIndex(); err != nil || (last > 0) != c.kept {
				t.Errorf("the log ends at %d, %v", last, err)
			}
		})
	}
}

func diverged(log []*raft.Log) []*raft.Log {
	for _, l := range log {
		l.Term = 2
	}
	return log
}

// forge writes a snapshot that is nothing but a header, all sums right.
func forge(t *testing.T, dir string, header *fsmpb.Header) {
	t.Helper()
	raw, err := proto.Marshal(&fsmpb.Record{Record: &fsmpb.Record_Header{Header: header}})
	if err != nil {
		t.Fatal(err)
	}
	body := append(binary.AppendUvarint([]byte("ecp-snapshot\n\x01\x00\x00"), uint64(len(raw))), raw...)
	k := readKept(filepath.Dir(dir), filepath.Base(dir))
	crc := crc64.New(crc64.MakeTable(crc64.ECMA))
	crc.Write(body)
	meta, err := json.Marshal(struct {
		raft.SnapshotMeta
		CRC []byte
	}{k.SnapshotMeta, crc.Sum(nil)})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{snapshotBody: body, snapshotMeta: meta} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := sealMeta(dir); err != nil {
		t.Fatal(err)
	}
}

// Any changed bit of a snapshot's metadata is noticed: it holds the membership.
func TestAnyChangedBitOfTheMetadataIsNoticed(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	id := take(t, s, 5)
	path := filepath.Join(dir, snapshotDir, id, snapshotMeta)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range len(good) * 8 {
		bad := append([]byte{}, good...)
		bad[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if k := readKept(filepath.Join(dir, snapshotDir), id); k.Err == nil || k.Index != 5 || k.Term != 3 {
			t.Fatalf("bit %d: %+v", bit, k)
		}
	}
}
