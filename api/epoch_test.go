package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
)

// TestEpoch: an index is told with its epoch, and cannot be read by in another.
func TestEpoch(t *testing.T) {
	r := newRig(t).withFleet()
	before := r.get(fleetPath).is(200)
	for _, got := range []*reply{before, r.put(fleetPath, ""), r.get("/api/v1/tenants/none"), r.get("/health")} {
		if epoch := got.header.Get(wire.HeaderEpoch); epoch != "e1" {
			t.Errorf("%d is of epoch %q", got.status, epoch)
		}
	}
	old := fmt.Sprintf("%s?min_index=%d", fleetPath, index(t, before))
	r.get(old, wire.HeaderEpoch, "e1").is(200)
	lagging := r.ledger.state()

	octets := []string{"Content-Type", wire.MediaSnapshot}
	restored := r.put(snapshotPath, string(r.get(snapshotPath).raw), octets...)
	now := decoded[wire.Restored](restored, 200).Epoch
	if got := restored.header.Get(wire.HeaderEpoch); got != now || now == "e1" {
		t.Errorf("the restore that began epoch %q is of %q", now, got)
	}
	for _, query := range []string{old, fleetPath + "?min_index=1000000", fleetPath + "?consistency=strong"} {
		gone := r.get(query, wire.HeaderEpoch, "e1")
		gone.refused(wire.CodeEpochChanged)
		if got := gone.header.Get(wire.HeaderEpoch); got != now {
			t.Errorf("%s: the refusal is of epoch %q", query, got)
		}
		if text := string(gone.raw); !strings.Contains(text, "e1") || !strings.Contains(text, now) {
			t.Errorf("%s: %s does not name both epochs", query, text)
		}
	}
	r.get(old).is(200) // who names no epoch has to know
	fresh := fmt.Sprintf("%s?min_index=%d", fleetPath, index(t, restored))
	r.get(fresh, wire.HeaderEpoch, now).is(200)

	// A node that lags behind the restore says nothing of itself.
	r.node.set(func(n *node) { n.frozen = lagging })
	if got := r.get(fleetPath, wire.HeaderEpoch, now).is(200).header.Get(wire.HeaderEpoch); got != now {
		t.Errorf("a node that lagged answers from epoch %q", got)
	}
	r.node.set(func(n *node) { n.frozen, n.readErr = lagging, fsm.Refusal(fsm.CodeNoLeader, "there is no leader") })
	r.get(fleetPath, wire.HeaderEpoch, now).refused(wire.CodeNoLeader)
}
