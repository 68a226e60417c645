package fsm_test

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// The level comes from the log: a log of binaries that knew of none is replayed
// at the level that they applied it at.
func TestLevelComesFromTheLog(t *testing.T) {
	if level := fsm.New().FeatureLevel(); level != fsm.BaseLevel {
		t.Errorf("an empty state is at level %d", level)
	}
	old := founded(t, 0)
	if old.state.FeatureLevel() != fsm.BaseLevel || old.state.LevelIndex() != 0 {
		t.Errorf("level %d at %d", old.state.FeatureLevel(), old.state.LevelIndex())
	}
	m := founded(t, fsm.SupportedLevel)
	if m.state.FeatureLevel() != fsm.SupportedLevel || m.state.LevelIndex() != 1 {
		t.Errorf("level %d at %d", m.state.FeatureLevel(), m.state.LevelIndex())
	}
	m.ok(clusterAt(0, "c2", "e2"))
	if m.state.FeatureLevel() != fsm.SupportedLevel {
		t.Error("a second founding lowered it")
	}
}

// The bytes that the binary before feature level 2 wrote of this history
// (commit b5b248c): equal states give equal bytes, across binaries too.
const level1Sum = "6f488255b9cf9a81711cf6216d79f1f26f290974df7100140b85938c3b886d20"

func TestLevel1IsWhatItWas(t *testing.T) {
	m := founded(t, 0)
	m.ok(putFleet("default", "edge"))
	m.ok(change("edge", resource(fsm.TypeCluster, "a", "1")))
	// What that binary does not know it refuses, and remembers so.
	m.refused(fsm.CodeInvalid, keyed(readOnly(true, "why"), "k", "r"))
	if r := m.do(keyed(readOnly(true, "why"), "k", "r")); fsm.Code(r.Code) != fsm.CodeInvalid || !r.Replayed || r.Detail != "unknown command" {
		t.Errorf("again: %v", r)
	}
	if sum, err := m.state.Hash(); err != nil || hex.EncodeToString(sum[:]) != level1Sum {
		t.Errorf("hash %x, %v", sum, err)
	}
}

func TestRaiseLevel(t *testing.T) {
	m := founded(t, fsm.BaseLevel)
	m.refused(fsm.CodeInvalid, readOnly(true, ""))
	raised := m.ok(raiseLevel(2))
	if kinds(m.events) != "level_raised;" || m.state.FeatureLevel() != 2 || m.state.LevelIndex() != raised.Index {
		t.Errorf("%s, level %d at %d, raised at %d", kinds(m.events), m.state.FeatureLevel(), m.state.LevelIndex(), raised.Index)
	}
	m.ok(readOnly(true, ""))
	for _, level := range []uint32{0, 1, 2} {
		if r := m.ok(raiseLevel(level)); !r.Unchanged || r.Index != raised.Index || len(m.events) != 0 || m.state.FeatureLevel() != 2 {
			t.Errorf("to %d: %v, level %d", level, r, m.state.FeatureLevel())
		}
	}
	restored, err := fsm.ReadSnapshot(bytes.NewReader(snapshot(t, m.state)))
	if err != nil {
		t.Fatal(err)
	}
	if restored.FeatureLevel() != 2 || restored.LevelIndex() != raised.Index {
		t.Errorf("restored: level %d at %d", restored.FeatureLevel(), restored.LevelIndex())
	}
}

func TestUnsupportedLevelsAreNeverApplied(t *testing.T) {
	m := founded(t, fsm.BaseLevel)
	m.refused(fsm.CodeLevelUnsupported, raiseLevel(fsm.SupportedLevel+1))
	if s, results, _ := fsm.New().Apply(1, &fsmpb.Entry{
		Commands: []*fsmpb.Command{clusterAt(fsm.SupportedLevel+1, "c", "e")},
	}); fsm.Code(results[0].Code) != fsm.CodeLevelUnsupported || s.Identity() != nil {
		t.Errorf("founded: %v, %v", results, s.Identity())
	}
}

func TestEntryLevel(t *testing.T) {
	for want, entry := range map[uint32]*fsmpb.Entry{
		0: {Commands: []*fsmpb.Command{putTenant("a"), readOnly(true, "")}},
		2: {Commands: []*fsmpb.Command{clusterAt(2, "c", "e"), putTenant("a")}},
		7: {Commands: []*fsmpb.Command{raiseLevel(2), raiseLevel(7), raiseLevel(3)}},
	} {
		if got := fsm.EntryLevel(entry); got != want {
			t.Errorf("%v: level %d, want %d", entry, got, want)
		}
	}
	if fsm.RequiredLevel(readOnly(false, "")) != 2 || fsm.RequiredLevel(putTenant("a")) != 1 {
		t.Error("required levels")
	}
}
