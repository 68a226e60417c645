package cluster

import (
	"bytes"
	"io"
	"log/slog"
	"testing"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// What was applied was committed: an older snapshot, from a leader or at a new
// start of Raft, does not take it back, and what Raft then hands over again is
// passed over.
func TestOlderSnapshotDoesNotTakeTheStateBack(t *testing.T) {
	seen := &recorder{}
	m := newMachine(slog.New(slog.DiscardHandler), []Observer{seen}, newMetrics(), fsm.SupportedLevel, func(err error) { t.Error(err) })
	entry := func(index uint64) *raft.Log {
		data, err := proto.Marshal(&fsmpb.Entry{Stamp: int64(index), Commands: []*fsmpb.Command{putTenant("t" + string(rune('0'+index)))}})
		must(t, err)
		return &raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: data}
	}
	m.ApplyBatch([]*raft.Log{entry(1), entry(2)})
	var older bytes.Buffer
	must(t, m.state.Load().WriteSnapshot(&older))
	m.ApplyBatch([]*raft.Log{entry(3), entry(4)})

	must(t, m.Restore(io.NopCloser(bytes.NewReader(older.Bytes()))))
	if at := m.state.Load().Index(); at != 4 {
		t.Fatalf("the state went back to index %d", at)
	}
	m.ApplyBatch([]*raft.Log{entry(3)})
	if _, err := m.Snapshot(); err == nil {
		t.Error("a snapshot of more than Raft has applied")
	}
	m.ApplyBatch([]*raft.Log{entry(4), entry(5)})
	if _, err := m.Snapshot(); err != nil {
		t.Error(err)
	}
	events, resets := seen.seen()
	if at := m.state.Load().Index(); at != 5 || len(events) != 5 || resets != 0 {
		t.Errorf("index %d, %d events, %d resets", at, len(events), resets)
	}

	newer := newMachine(slog.New(slog.DiscardHandler), nil, newMetrics(), fsm.SupportedLevel, func(err error) { t.Error(err) })
	newer.ApplyBatch([]*raft.Log{entry(9)})
	var snapshot bytes.Buffer
	must(t, newer.state.Load().WriteSnapshot(&snapshot))
	must(t, m.Restore(io.NopCloser(&snapshot)))
	if at := m.state.Load().Index(); at != 9 {
		t.Errorf("a newer snapshot: index %d", at)
	}
}
