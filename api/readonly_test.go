package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

const readOnlyPath = "/api/v1/cluster/read-only"

func TestReadOnly(t *testing.T) {
	r := newRig(t).withFleet()
	r.change(cluster("a", ""))
	if got := decoded[wire.ReadOnly](r.get(readOnlyPath), 200); got != (wire.ReadOnly{}) {
		t.Errorf("before: %+v", got)
	}
	turned := r.put(readOnlyPath, `{"read_only":true,"message":"a move"}`, wire.HeaderIdempotencyKey, "k")
	on := decoded[wire.ReadOnly](turned, 200)
	if !on.ReadOnly || on.Index != index(t, turned) || on.Since == nil || on.By != "anonymous" || on.Message != "a move" {
		t.Errorf("on: %+v", on)
	}
	for what, reply := range map[string]*reply{
		"again": r.put(readOnlyPath, `{"read_only":true,"message":"another"}`), "get": r.get(readOnlyPath),
		"replayed": r.put(readOnlyPath, "message: a move\nread_only: true\n", "Content-Type", "text/yaml", wire.HeaderIdempotencyKey, "k"),
	} {
		if got := decoded[wire.ReadOnly](reply, 200); fmt.Sprint(got.Index, got.Since, got.By, got.Message) != fmt.Sprint(on.Index, on.Since, on.By, on.Message) {
			t.Errorf("%s: %+v, want %+v", what, got, on)
		}
	}
	if got := decoded[wire.Cluster](r.get("/api/v1/cluster"), 200).ReadOnly; got == nil || got.Index != on.Index || got.By != on.By {
		t.Errorf("cluster: %+v", got)
	}

	set := `{"upsert":[` + cluster("b", "") + `]}`
	for _, reply := range []*reply{
		r.post(changePath, set, wire.HeaderIdempotencyKey, "again"), r.put(fleetPath, ""), r.put("/api/v1/tenants/acme", ""),
		r.delete(fleetPath), r.put("/api/v1/tenants/default/endpoints/web", `{"endpoints":[]}`), r.post(fleetPath+"/rollback", `{"to":1}`),
	} {
		p := reply.refused(wire.CodeReadOnly)
		if !strings.Contains(p.Detail, "by anonymous: a move") || reply.status != http.StatusServiceUnavailable || reply.header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %q, Retry-After %q", reply.what, reply.status, p.Detail, reply.header.Get("Retry-After"))
		}
	}
	if got := decoded[wire.Changed](r.post(changePath+"?dry_run=true", set), 200); len(got.Changed) != 1 {
		t.Errorf("dry run: %+v", got)
	}
	if r.ledger.state().ReadOnly() == nil {
		t.Error("a dry run ended it")
	}

	off := r.put(readOnlyPath, `{"read_only":false}`)
	if got := decoded[wire.ReadOnly](off, 200); got != (wire.ReadOnly{Index: index(t, off)}) {
		t.Errorf("off: %+v", got)
	}
	if raw := string(r.get("/api/v1/cluster").raw); strings.Contains(raw, "read_only") {
		t.Errorf("cluster: %s", raw)
	}
	r.post(changePath, set, wire.HeaderIdempotencyKey, "again").is(http.StatusCreated)
}

// TestReadOnlyIsOverByNow: who answers for a mode that has ended since does not
// tell of another one.
func TestReadOnlyIsOverByNow(t *testing.T) {
	r := newRig(t)
	const body, key = `{"read_only":true,"message":"first"}`, wire.HeaderIdempotencyKey
	first := decoded[wire.ReadOnly](r.put(readOnlyPath, body, key, "k"), 200)
	for _, on := range []bool{false, true} {
		r.ledger.apply(&fsmpb.Command{By: "bob", Op: &fsmpb.Command_SetReadOnly{SetReadOnly: &fsmpb.SetReadOnly{ReadOnly: on}}})
	}
	if got := decoded[wire.ReadOnly](r.put(readOnlyPath, body, key, "k"), 200); got != (wire.ReadOnly{ReadOnly: true, Index: first.Index}) {
		t.Errorf("replayed: %+v", got)
	}
}

func TestReadOnlyMistakes(t *testing.T) {
	r := newRig(t)
	r.put(readOnlyPath, "").refused(wire.CodeInvalid, "read_only")
	r.put(readOnlyPath, `{"message":"why"}`).refused(wire.CodeInvalid, "read_only")
	r.put(readOnlyPath, `{"read_only":"yes"}`).refused(wire.CodeInvalid, "read_only")
	r.put(readOnlyPath, `{"read_only":true,"why":"x"}`).refused(wire.CodeUnknownField, "why")
	r.put(readOnlyPath, `{"read_only":true,"message":"`+strings.Repeat("x", 4097)+`"}`).refused(wire.CodeInvalid, "message")
	if r.ledger.state().ReadOnly() != nil {
		t.Error("a mistake turned it on")
	}
}
