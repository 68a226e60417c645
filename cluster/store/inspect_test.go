package store

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

// contents returns every file below a directory.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			out[path] = ""
			return err
		}
		body, err := os.ReadFile(path)
		out[path] = string(body)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// filled makes the closed stores of a node: a vote, snapshots of 5 and 9, a
// log from 4 to 14 whose entry 11 is a configuration.
func filled(t *testing.T) (dir string, newest string) {
	t.Helper()
	dir = t.TempDir()
	s := open(t, dir)
	if err := errors.Join(
		s.Stable.SetUint64([]byte("CurrentTerm"), 7), s.Stable.SetUint64([]byte("LastVoteTerm"), 6),
		s.Stable.Set([]byte("LastVoteCand"), []byte("n2/x@host:1")),
	); err != nil {
		t.Fatal(err)
	}
	log := entries(4, 14)
	log[7].Type, log[7].Data = raft.LogConfiguration, raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "n1/x"}}})
	stage(t, s, 12)
	if err := s.Log.StoreLogs(log); err != nil {
		t.Fatal(err)
	}
	take(t, s, 5)
	newest = take(t, s, 9)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, newest
}

func inspect(t *testing.T, dir string) (*Inspection, []uint64) {
	t.Helper()
	before := contents(t, dir)
	var seen []uint64
	i, err := Inspect(dir, func(_ *Inspection, l *raft.Log) { seen = append(seen, l.Index) })
	if err != nil {
		t.Fatal(err)
	}
	after := contents(t, dir)
	for path, body := range after {
		if was, ok := before[path]; !ok || was != body || len(before) != len(after) {
			t.Errorf("%s was changed", path)
		}
	}
	return i, seen
}

func TestInspectReadsEverythingAndChangesNothing(t *testing.T) {
	dir, _ := filled(t)
	i, seen := inspect(t, dir)
	if i.Term != 7 || i.VotedTerm != 6 || i.VotedFor != "n2/x@host:1" {
		t.Errorf("term %d, vote %d for %q", i.Term, i.VotedTerm, i.VotedFor)
	}
	if i.First != 4 || i.Last != 14 || i.LastTerm != 3 || i.Committed != 12 || len(seen) != 11 {
		t.Errorf("log %d to %d, term %d, committed %d, %v", i.First, i.Last, i.LastTerm, i.Committed, seen)
	}
	if len(i.Snapshots) != 2 || i.Snapshots[0].Index != 9 || i.Snapshots[1].Index != 5 || i.At != 9 || i.State.Index() != 9 {
		t.Errorf("snapshots %+v, at %d", i.Snapshots, i.At)
	}
	if i.ConfigurationIndex != 11 || len(i.Configuration.Servers) != 1 {
		t.Errorf("configuration %d %v", i.ConfigurationIndex, i.Configuration)
	}
	if !i.Sound() || len(i.Damage) > 0 {
		t.Errorf("damage %v", i.Damage)
	}
}

func TestInspectNamesEachDamage(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(t *testing.T, dir, newest string)
		want   Damage // of the first, File relative
		sound  bool
		count  int
	}{
		"an entry": {func(t *testing.T, dir, _ string) {
			edit(t, dir, func(b *bbolt.Bucket) error {
				return b.Put(key(6), bytes.Replace(b.Get(key(6)), []byte("data"), []byte("dada"), 1))
			})
		}, Damage{File: logFile, Index: 6, Cause: "its checksum does not match"}, false, 1},
		"an entry that is missing": {func(t *testing.T, dir, _ string) {
			edit(t, dir, func(b *bbolt.Bucket) error { return errors.Join(b.Delete(key(12)), b.Delete(key(13))) })
		}, Damage{File: logFile, Index: 12, Cause: "it is missing"}, false, 2},
		"the log's beginning": {func(t *testing.T, dir, _ string) {
			edit(t, dir, func(b *bbolt.Bucket) error {
				for index := uint64(4); index < 12; index++ {
					if err := b.Delete(key(index)); err != nil {
						return err
					}
				}
				return nil
			})
		}, Damage{File: logFile, Index: 10, Cause: "it begins at index 12, the newest snapshot that holds is of 9"}, false, 1},
		"the newest snapshot": {func(t *testing.T, dir, newest string) {
			flip(t, dir, newest, snapshotBody)
		}, Damage{File: "snapshots", Index: 9, Cause: "state.bin: its checksum does not match"}, true, 1},
		"the newest snapshot, and the log is short": {func(t *testing.T, dir, newest string) {
			flip(t, dir, newest, snapshotBody)
			edit(t, dir, func(b *bbolt.Bucket) error {
				return errors.Join(b.Delete(key(4)), b.Delete(key(5)), b.Delete(key(6)))
			})
		}, Damage{File: logFile, Index: 6, Cause: "it begins at index 7, the newest snapshot that holds is of 5"}, false, 2},
		"no log":  {func(t *testing.T, dir, _ string) { remove(t, dir, logFile) }, Damage{File: logFile, Cause: "it is missing"}, false, 1},
		"no vote": {func(t *testing.T, dir, _ string) { remove(t, dir, stableFile) }, Damage{File: stableFile, Cause: "it is missing"}, false, 1},
		"half a log": {func(t *testing.T, dir, _ string) {
			if err := os.Truncate(filepath.Join(dir, logFile), 9000); err != nil {
				t.Fatal(err)
			}
		}, Damage{File: logFile}, false, 1},
		"pages of noise": {func(t *testing.T, dir, _ string) {
			path := filepath.Join(dir, logFile)
			body, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for at := 2 * os.Getpagesize(); at < len(body); at++ {
				body[at] = byte(at * 7)
			}
			if err := os.WriteFile(path, body, 0o600); err != nil {
				t.Fatal(err)
			}
		}, Damage{File: logFile}, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir, newest := filled(t)
			c.damage(t, dir, newest)
			i, seen := inspect(t, dir)
			if i.Sound() != c.sound || len(i.Damage) != c.count {
				t.Fatalf("sound %v, damage %+v", i.Sound(), i.Damage)
			}
			d := i.Damage[0]
			if !strings.HasPrefix(d.File, filepath.Join(dir, c.want.File)) || d.Index != c.want.Index || !strings.Contains(d.Cause, c.want.Cause) || d.WayOut == "" {
				t.Errorf("%+v, want %+v", d, c.want)
			}
			if slices.Contains(seen, d.Index) && d.File == filepath.Join(dir, logFile) && d.Index > 0 && strings.HasPrefix(d.Cause, "its") {
				t.Error("the damaged entry was handed out")
			}
			if name == "an entry" {
				body, err := os.ReadFile(d.File)
				if err != nil {
					t.Fatal(err)
				}
				if d.Offset == 0 || !bytes.Contains(body[d.Offset:d.Offset+200], []byte("some dada of an entry")) {
					t.Errorf("the entry is not at offset %d", d.Offset)
				}
			}
			// What is not sound does not open, what is does.
			missing := Complete(dir)
			s, err := Open(dir, Options{Damaged: func(error) {}, Log: hclog.NewNullLogger()})
			if err == nil {
				_, err = s.Restore()
				s.Close()
			}
			if (errors.Join(missing, err) == nil) != c.sound {
				t.Errorf("the node starts with %v, %v", missing, err)
			}
		})
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func TestInspectLeavesARunningNodeAlone(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	if _, err := Inspect(dir, func(*Inspection, *raft.Log) {}); !errors.Is(err, ErrInUse) {
		t.Errorf("%v", err)
	}
}
