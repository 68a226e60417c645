package api_test

import (
	"strings"
	"testing"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
)

func TestFinalize(t *testing.T) {
	r := newRigOn(t, newNode(newLedgerAt(fsm.BaseLevel)))
	if p := r.put(readOnlyPath, `{"read_only":true}`).refused(wire.CodeNotFinalized); !strings.Contains(p.Detail, "ecpctl cluster finalize") {
		t.Errorf("detail: %q", p.Detail)
	}
	if got := decoded[wire.Cluster](r.get("/api/v1/cluster"), 200); got.FeatureLevel != 1 {
		t.Errorf("before: %+v", got)
	}
	r.node.set(func(n *node) { n.clusterErr = fsm.Refusal(fsm.CodeLevelUnsupported, "n2 supports 1") })
	r.post("/api/v1/cluster/finalize", "").refused(wire.CodeLevelUnsupported)
	r.node.set(func(n *node) { n.clusterErr = nil })
	done := decoded[wire.Finalized](r.post("/api/v1/cluster/finalize", ""), 200)
	if again := decoded[wire.Finalized](r.post("/api/v1/cluster/finalize", ""), 200); again != done || done.FeatureLevel != fsm.SupportedLevel || done.Index == 0 {
		t.Errorf("finalized: %+v, then %+v", done, again)
	}
	r.put(readOnlyPath, `{"read_only":true}`).is(200)
}

// TestFinalizedElsewhere: a node that lags does not refuse what the level knows.
func TestFinalizedElsewhere(t *testing.T) {
	r := newRigOn(t, newNode(newLedgerAt(fsm.BaseLevel)))
	r.node.lag()
	if _, err := r.node.Finalize(t.Context(), "bob"); err != nil {
		t.Fatal(err)
	}
	r.put(readOnlyPath, `{"read_only":true}`).is(200)
}
