package fsm_test

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func TestRecoveredBeginsAnEpoch(t *testing.T) {
	m := populated(t)
	before := snapshot(t, m.state)
	old := m.state
	st := old.Recovered("e2")
	want := &fsmpb.Identity{
		ClusterId: old.Identity().ClusterId, Epoch: "e2",
		ParentClusterId: old.Identity().ClusterId, ParentEpoch: old.Identity().Epoch, ParentSeq: old.Seq(),
	}
	if !proto.Equal(st.Identity(), want) || want.ParentSeq == 0 || want.ParentEpoch == "" {
		t.Errorf("identity %v, want %v", st.Identity(), want)
	}
	var events []*fsmpb.Event
	for ev := range st.Events(old.Seq()) {
		events = append(events, ev)
	}
	if len(events) != 1 || events[0].Seq != old.Seq()+1 || events[0].By != "recover" || !proto.Equal(events[0].GetClusterInitialized().GetIdentity(), want) {
		t.Errorf("the new epoch begins with %v", events)
	}
	if st.Index() != old.Index() || !bytes.Equal(snapshot(t, old), before) {
		t.Error("the old state changed")
	}
	again, err := fsm.ReadSnapshot(bytes.NewReader(snapshot(t, old.Recovered("e2"))))
	if err != nil || !bytes.Equal(snapshot(t, again), snapshot(t, st)) {
		t.Errorf("two survivors with the same log come to other states: %v", err)
	}
	// An archive that still acknowledges the old epoch is refused.
	m.state = st
	m.refused(fsm.CodeEpochChanged, ack(want.ParentEpoch, old.Seq()))
	m.ok(ack("e2", st.Seq()))
}
