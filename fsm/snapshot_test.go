package fsm_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// populated returns a machine whose state has every kind of row.
func populated(t testing.TB) *machine {
	m := newMachine(t)
	m.ok(archive(&fsmpb.ArchiveSettings{Enabled: true, MaxOutboxBytes: 4000}))
	m.ok(putTenant("acme"))
	m.ok(keyed(putFleet("default", "edge"), "k", "r"))
	m.ok(putFleet("acme", "edge"))
	m.ok(change("edge", resource(fsm.TypeCluster, "a", "1"), resource(fsm.TypeListener, "l", "1"), resource(fsm.TypeRoute, "r", "1")))
	c := change("edge", resource(fsm.TypeCluster, "a", "2"))
	c.GetChangeFleet().Delete = []*fsmpb.ResourceKey{removal(fsm.TypeRoute, "r")}
	m.ok(c)
	m.ok(rollback("edge", 1))
	m.ok(putEndpoints("web", "x"))
	m.ok(readOnly(true, "a move"))
	m.ok(readOnly(false, ""))
	for i := range uint64(30) {
		m.ok(report("n1", 1, i+1, connected("default", fmt.Sprint("p", i), i, "edge"), rejected(fmt.Sprint("p", i), i, fsm.TypeCluster, "bad")))
	}
	return m
}

func TestSnapshotRestores(t *testing.T) {
	m := populated(t)
	before := snapshot(t, m.state)
	restored, err := fsm.ReadSnapshot(bytes.NewReader(before))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(snapshot(t, restored), before) {
		t.Fatal("other bytes")
	}
	// Both go on alike: the same log leads to the same bytes.
	twin := &machine{t: t, state: restored, log: m.log, now: m.now}
	for _, c := range []*fsmpb.Command{
		change("edge", resource(fsm.TypeListener, "l", "9")),
		keyed(putFleet("default", "edge"), "k", "r"),
		ack("e1", m.state.Seq()),
		rollback("edge", 2),
	} {
		m.ok(c)
		twin.ok(c)
	}
	if !bytes.Equal(snapshot(t, twin.state), snapshot(t, m.state)) {
		t.Fatal("a restored state goes another way")
	}
	h1, err1 := m.state.Hash()
	h2, err2 := twin.state.Hash()
	if h1 != h2 || err1 != nil || err2 != nil {
		t.Fatalf("hashes %x %x", h1, h2)
	}
	one, _ := restored.Revision("default", "edge", 1)
	two, _ := restored.Revision("default", "edge", 2)
	if !one.SameType(two, fsm.TypeListener) {
		t.Fatal("restored revisions do not share")
	}
}

func TestReplayGivesTheSameBytes(t *testing.T) {
	m := populated(t)
	for range 2 {
		s := fsm.New()
		for i, e := range m.log {
			raw, err := proto.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			entry := &fsmpb.Entry{}
			if err := proto.Unmarshal(raw, entry); err != nil {
				t.Fatal(err)
			}
			s, _, _ = s.Apply(uint64(i+1), entry)
		}
		if !bytes.Equal(snapshot(t, s), snapshot(t, m.state)) {
			t.Fatal("a replayed log makes other bytes")
		}
	}
}

func TestDamagedSnapshotsAreRefused(t *testing.T) {
	good := snapshot(t, populated(t).state)
	for i := 0; i < len(good); i += 7 {
		bad := bytes.Clone(good)
		bad[i] ^= 0x40
		if _, err := fsm.ReadSnapshot(bytes.NewReader(bad)); err == nil {
			t.Fatalf("byte %d of %d: a flipped bit went unnoticed", i, len(good))
		}
	}
	for _, n := range []int{0, 5, 16, 17, 100, len(good) - 40, len(good) - 1} {
		_, err := fsm.ReadSnapshot(bytes.NewReader(good[:n]))
		if !errors.Is(err, fsm.ErrDamaged) && !errors.Is(err, fsm.ErrNotSnapshot) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
}

// forge writes records the way WriteSnapshot does, sums included.
func forge(records ...*fsmpb.Record) []byte {
	out := []byte("ecp-snapshot\n\x01\x00\x00")
	for _, r := range records {
		raw, _ := proto.Marshal(r)
		out = append(binary.AppendUvarint(out, uint64(len(raw))), raw...)
	}
	sum := sha256.Sum256(out)
	return append(out, sum[:]...)
}

func TestForgedSnapshotsAreRefused(t *testing.T) {
	header := func(format, level uint32) *fsmpb.Record {
		return &fsmpb.Record{Record: &fsmpb.Record_Header{Header: &fsmpb.Header{Format: format, FeatureLevel: level}}}
	}
	footer := func(n uint64) *fsmpb.Record {
		return &fsmpb.Record{Record: &fsmpb.Record_Footer{Footer: &fsmpb.Footer{Records: n}}}
	}
	fleet := &fsmpb.Record{Record: &fsmpb.Record_Fleet{Fleet: &fsmpb.Fleet{Tenant: "t", Name: "f"}}}
	revision := func(fleet string, whole bool, resources ...uint32) *fsmpb.Record {
		return &fsmpb.Record{Record: &fsmpb.Record_Revision{Revision: &fsmpb.RevisionRecord{
			Revision: &fsmpb.Revision{Tenant: "t", Fleet: fleet, Revision: 1}, Whole: whole, Resources: resources,
		}}}
	}
	if _, err := fsm.ReadSnapshot(bytes.NewReader(forge(header(1, 1), fleet, revision("f", true), footer(3)))); err != nil {
		t.Fatalf("the forger cannot forge: %v", err)
	}
	for name, tc := range map[string]struct {
		raw  []byte
		want error
	}{
		"newer format":        {forge(header(2, 1), footer(1)), fsm.ErrNewerSnapshot},
		"newer feature level": {forge(header(1, 99), footer(1)), fsm.ErrNewerSnapshot},
		"no header":           {forge(footer(0)), fsm.ErrDamaged},
		"two headers":         {forge(header(1, 1), header(1, 1), footer(2)), fsm.ErrDamaged},
		"a record missing":    {forge(header(1, 1), footer(2)), fsm.ErrDamaged},
		"no footer":           {forge(header(1, 1)), fsm.ErrDamaged},
		"an empty record":     {forge(header(1, 1), &fsmpb.Record{}, footer(2)), fsm.ErrDamaged},
		"revision of none":    {forge(header(1, 1), revision("f", true), footer(2)), fsm.ErrDamaged},
		"revision of another": {forge(header(1, 1), fleet, revision("g", true), footer(3)), fsm.ErrDamaged},
		"revision on none":    {forge(header(1, 1), fleet, revision("f", false), footer(3)), fsm.ErrDamaged},
		"resource of none":    {forge(header(1, 1), fleet, revision("f", true, 0), footer(3)), fsm.ErrDamaged},
		"a huge record":       {append([]byte("ecp-snapshot\n\x01\x00\x00"), binary.AppendUvarint(nil, 1<<40)...), fsm.ErrDamaged},
	} {
		if _, err := fsm.ReadSnapshot(bytes.NewReader(tc.raw)); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
}

type failing struct{ after int }

var errDisk = errors.New("disk")

func (f *failing) Write(p []byte) (int, error) {
	if f.after -= len(p); f.after < 0 {
		return 0, errDisk
	}
	return len(p), nil
}

func (f *failing) Read([]byte) (int, error) { return 0, errDisk }

func TestSnapshotErrorsAreReported(t *testing.T) {
	m := populated(t)
	for _, after := range []int{0, 70_000} {
		m.ok(putEndpoints("big", string(make([]byte, 100_000))))
		if err := m.state.WriteSnapshot(&failing{after: after}); !errors.Is(err, errDisk) {
			t.Errorf("after %d: %v", after, err)
		}
		m.ok(ack("e1", m.state.Seq()))
	}
	good := snapshot(t, m.state)
	for _, n := range []int{17, 30, len(good) - 3} {
		if _, err := fsm.ReadSnapshot(io.MultiReader(bytes.NewReader(good[:n]), &failing{})); !errors.Is(err, errDisk) {
			t.Errorf("after %d: %v", n, err)
		}
	}
}

func FuzzReadSnapshot(f *testing.F) {
	f.Add(snapshot(f, fsm.New()))
	f.Add(snapshot(f, populated(f).state))
	f.Fuzz(func(t *testing.T, raw []byte) {
		// Past the checksum too: what was signed by mistake must not panic.
		if n := len(raw) - sha256.Size; n > 0 {
			sum := sha256.Sum256(raw[:n])
			copy(raw[n:], sum[:])
		}
		s, err := fsm.ReadSnapshot(bytes.NewReader(raw))
		if err != nil {
			return
		}
		again, err := fsm.ReadSnapshot(bytes.NewReader(snapshot(t, s)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(snapshot(t, again), snapshot(t, s)) {
			t.Fatal("other bytes")
		}
	})
}

func FuzzApply(f *testing.F) {
	for _, e := range populated(f).log {
		raw, err := proto.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	m := populated(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		entry := &fsmpb.Entry{}
		if proto.Unmarshal(raw, entry) != nil {
			return
		}
		s, results, _ := m.state.Apply(m.state.Index()+1, entry)
		if len(results) != len(entry.Commands) {
			t.Fatalf("%d results of %d commands", len(results), len(entry.Commands))
		}
		restored, err := fsm.ReadSnapshot(bytes.NewReader(snapshot(t, s)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(snapshot(t, restored), snapshot(t, s)) {
			t.Fatal("other bytes")
		}
	})
}
