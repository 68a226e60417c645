package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/api"
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func index(t *testing.T, r *reply) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(r.header.Get(wire.HeaderIndex), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestCreateHereUseThere: a node that lags finds what another one has taken,
// on every path that depends on it.
func TestCreateHereUseThere(t *testing.T) {
	l := newLedger()
	follower := newNode(l)
	here, there := newRigOn(t, newNode(l)), newRigOn(t, follower)
	old := l.state()
	here.withFleet()
	here.change(cluster("web", ""))
	here.put("/api/v1/tenants/default/endpoints/web", `{"endpoints":[]}`).is(201)
	here.put("/api/v1/tenants/acme", "").is(201)
	connect(t, l, "default", "edge", "p", "10.0.0.1:1", 1)
	for _, path := range []string{
		fleetPath, fleetPath + "/revisions", fleetPath + "/revisions/1", fleetPath + "/revisions/1/diff",
		fleetPath + "/resources", fleetPath + "/resources/cluster/web", fleetPath + "/status", fleetPath + "/status?revision=1",
		"/api/v1/tenants/default/endpoints/web", "/api/v1/tenants/default/proxies/p", "/api/v1/tenants/acme", "/api/v1/tenants/acme/fleets",
	} {
		follower.set(func(n *node) { n.frozen = old })
		if got := there.get(path).is(200); index(t, got) != l.state().Index() {
			t.Errorf("%s: index %d, want %d", path, index(t, got), l.state().Index())
		}
	}
	follower.set(func(n *node) { n.frozen = old })
	if got := there.get("/api/v1/tenants/default/fleets").is(200); index(t, got) != old.Index() {
		t.Error("the follower did not lag")
	}
}

// TestDryRunIsFresh: what it says holds for the acknowledged state.
func TestDryRunIsFresh(t *testing.T) {
	r := newRig(t)
	r.node.lag()
	r.ledger.apply(&fsmpb.Command{Op: &fsmpb.Command_PutFleet{PutFleet: &fsmpb.PutFleet{Tenant: "default", Name: "edge"}}})
	r.post(changePath+"?dry_run=true", `{"upsert":[`+cluster("a", "")+`]}`).is(200)
}

// TestNoWithoutQuorum: a "no" that cannot be confirmed is not said; what is
// there is shown as ever.
func TestNoWithoutQuorum(t *testing.T) {
	r := newRig(t).withFleet()
	lost := fsm.Refusal(fsm.CodeNoLeader, "there is no leader")
	r.node.set(func(n *node) { n.readErr, n.proposeErr = lost, lost })
	r.get(fleetPath).is(200)
	r.get("/api/v1/tenants/none").refused(wire.CodeNoLeader)
	r.get(fleetPath + "?consistency=strong").refused(wire.CodeNoLeader)
	got := r.put(fleetPath, "")
	got.refused(wire.CodeNoLeader)
	if got.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	r.post(changePath+"?dry_run=true", `{}`).refused(wire.CodeNoLeader)
}

func TestLocalStrongAndMinIndex(t *testing.T) {
	r := newRig(t).withFleet()
	r.change(cluster("a", ""))
	r.node.lag()
	r.ledger.apply(&fsmpb.Command{Op: &fsmpb.Command_PutFleet{
		PutFleet: &fsmpb.PutFleet{Tenant: "default", Name: "edge", Labels: map[string]string{"new": "yes"}},
	}})
	newest := r.ledger.state().Index()
	label := func(query string) string {
		return decoded[wire.Fleet](r.get(fleetPath+query), 200).Labels["new"]
	}
	if got := label(""); got != "" {
		t.Error("a local read waited")
	}
	if got := label(fmt.Sprintf("?min_index=%d", newest-1)); got != "" {
		t.Error("min_index of the present waited")
	}
	if got := label(fmt.Sprintf("?min_index=%d", newest)); got != "yes" {
		t.Error("min_index was not waited for")
	}
	r.node.lag()
	r.ledger.apply(&fsmpb.Command{Op: &fsmpb.Command_PutFleet{PutFleet: &fsmpb.PutFleet{Tenant: "default", Name: "edge"}}})
	if got := label("?consistency=local"); got != "yes" {
		t.Error("a local read waited")
	}
	if got := label("?consistency=strong"); got != "" {
		t.Error("a strong read was stale")
	}
	if got := r.get(fleetPath + "?consistency=strong"); index(t, got) != r.ledger.state().Index() {
		t.Error("a strong read has an old index")
	}
}

// TestIndexThatDoesNotCome ends with the request, as what it is.
func TestIndexThatDoesNotCome(t *testing.T) {
	r := newRig(t, func(_ *rig, c *api.Config, _ *api.Deps) { c.RequestLimit = 50 * time.Millisecond }).withFleet()
	r.get(fleetPath + "?min_index=1000000").refused(wire.CodeTimeout)
	r.node.lag()
	r.node.set(func(n *node) { n.stuck = true })
	r.ledger.apply(&fsmpb.Command{Op: &fsmpb.Command_PutTenant{PutTenant: &fsmpb.PutTenant{Name: "x"}}})
	r.get(fleetPath + "?consistency=strong").refused(wire.CodeTimeout)
}

// TestOwnWrites: the next local read of the node that took a write has it.
func TestOwnWrites(t *testing.T) {
	r := newRig(t).withFleet()
	r.node.lag()
	made := r.put(fleetPath, `{"labels":{"a":"b"}}`).is(200)
	read := r.get(fleetPath).is(200)
	if decoded[wire.Fleet](read, 200).Labels["a"] != "b" || index(t, read) < index(t, made) {
		t.Error("an own write is not to be seen")
	}
}

// TestClusterErrors: what stands between a request and Apply, each with its
// own meaning.
func TestClusterErrors(t *testing.T) {
	r := newRig(t).withFleet()
	for _, c := range []struct {
		err  error
		code wire.Code
	}{
		{fsm.Refusal(fsm.CodeNoLeader, "x"), wire.CodeNoLeader},
		{fsm.Refusal(fsm.CodeNotLeader, "x"), wire.CodeNotLeader},
		{fsm.Refusal(fsm.CodeUnavailable, "x"), wire.CodeUnavailable},
		{fsm.Refusal(fsm.CodeOutboxFull, "x"), wire.CodeOutboxFull},
		{fsm.Refusal(fsm.CodeReadOnly, "x"), wire.CodeReadOnly},
		{fsm.Refusal(fsm.CodeEpochChanged, "x"), wire.CodeEpochChanged},
		{fsm.Refusal("storage_full", "x"), wire.CodeStorageFull},
		{fsm.Refusal(fsm.CodeTimeout, "x"), wire.CodeTimeout},
		{fmt.Errorf("forward: %w", fsm.Refusal(fsm.CodeOutcomeUnknown, "x")), wire.CodeOutcomeUnknown},
		{context.DeadlineExceeded, wire.CodeOutcomeUnknown},
		{errors.New("broken pipe"), wire.CodeOutcomeUnknown},
	} {
		r.node.set(func(n *node) { n.proposeErr = c.err })
		got := r.put(fleetPath, "")
		p := got.refused(c.code)
		if retry := got.header.Get("Retry-After") != ""; retry != (p.Status == 503 || p.Status == 507) {
			t.Errorf("%s: Retry-After %v with %d", c.code, retry, p.Status)
		}
	}
	r.node.set(func(n *node) { n.proposeErr, n.readErr = nil, errors.New("a secret detail") })
	if p := r.get("/api/v1/tenants/none").refused(wire.CodeInternal); p.Detail == "" || p.Detail == "a secret detail" {
		t.Errorf("detail: %q", p.Detail)
	}
}

func TestOutboxFull(t *testing.T) {
	r := newRig(t).withFleet()
	r.ledger.apply(&fsmpb.Command{Op: &fsmpb.Command_ConfigureArchive{ConfigureArchive: &fsmpb.ConfigureArchive{
		Settings: &fsmpb.ArchiveSettings{Enabled: true, MaxOutboxBytes: 1},
	}}})
	r.post(changePath, `{"upsert":[`+cluster("a", "")+`]}`).refused(wire.CodeOutboxFull)
}

func TestIdempotency(t *testing.T) {
	r := newRig(t)
	const key = wire.HeaderIdempotencyKey
	same := func(what string, first, again *reply) {
		t.Helper()
		if first.status != again.status || string(first.raw) != string(again.raw) || index(t, first) != index(t, again) {
			t.Errorf("%s: first %d %s\nthen %d %s", what, first.status, first.raw, again.status, again.raw)
		}
		if first.header.Get(wire.HeaderReplayed) != "" || again.header.Get(wire.HeaderReplayed) != "true" {
			t.Errorf("%s: %s is %q, then %q", what, wire.HeaderReplayed, first.header.Get(wire.HeaderReplayed), again.header.Get(wire.HeaderReplayed))
		}
	}
	body := `{"labels":{"a":"b"},"settings":{"revision_history_limit":5}}`
	first := r.put(fleetPath, body, key, "k1").is(201)
	r.put(fleetPath, `{}`, key, "other").is(200)
	same("fleet", first, r.put(fleetPath, `{"settings": {"revision_history_limit":5}, "labels":{"a":"b"}}`, key, "k1"))
	same("yaml", first, r.put(fleetPath, "labels: {a: b}\nsettings:\n  revision_history_limit: 5\n", key, "k1", "Content-Type", "text/yaml"))
	same("escapes", first, r.put("/api/v1/tenants/default/fleets/%65dge", body, key, "k1"))

	set := `{"upsert":[` + cluster("web", `,"n":12345678901234567890`) + `,` + listener("in", `,"needs":"x"`) + `]}`
	first = r.post(changePath, set, key, "k2").is(201)
	r.change(cluster("web", ""))
	same("change", first, r.post(changePath, set, key, "k2"))
	first = r.post(fleetPath+"/rollback", `{"to":1}`, key, "k3").is(201)
	same("rollback", first, r.post(fleetPath+"/rollback", `{"to":1}`, key, "k3"))
	first = r.put("/api/v1/tenants/default/endpoints/web", `{"endpoints":[]}`, key, "k4").is(201)
	same("endpoints", first, r.put("/api/v1/tenants/default/endpoints/web", `{"endpoints":[]}`, key, "k4"))
	first = r.delete("/api/v1/tenants/default/endpoints/web", key, "k5").is(200)
	same("deletion", first, r.delete("/api/v1/tenants/default/endpoints/web", key, "k5"))
	first = r.put("/api/v1/tenants/acme", "", key, "k6").is(201)
	same("tenant", first, r.put("/api/v1/tenants/acme", "", key, "k6"))

	conflict := `{"expect_revision":99}`
	one, two := r.post(changePath, conflict, key, "k7"), r.post(changePath, conflict, key, "k7")
	p1, p2 := one.refused(wire.CodeRevisionConflict), two.refused(wire.CodeRevisionConflict)
	if p1.Detail != p2.Detail || two.header.Get(wire.HeaderReplayed) != "true" {
		t.Errorf("a refusal is not remembered: %+v, %+v", p1, p2)
	}

	for _, again := range []*reply{
		r.put(fleetPath, `{"labels":{"a":"c"}}`, key, "k1"),
		r.put("/api/v1/tenants/default/fleets/other", body, key, "k1"),
		r.delete(fleetPath, key, "k1"),
		r.post(changePath+"?force=true", set, key, "k2"),
		r.post(changePath, `{"upsert":[`+cluster("web", `,"n":12345678901234567891`)+`,`+listener("in", `,"needs":"x"`)+`]}`, key, "k2"),
	} {
		again.refused(wire.CodeIdempotencyMismatch)
	}
	r.post(changePath+"?dry_run=true", set, key, "k2").is(200)
	r.put("/api/v1/tenants/acme/fleets/edge", body, key, "k1").is(201)
}

func TestIdempotencyKeyIsChecked(t *testing.T) {
	r := newRig(t)
	for _, key := range []string{"", long(256), "ä"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, r.url+fleetPath, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header[wire.HeaderIdempotencyKey] = []string{key}
		resp, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != wire.CodeInvalidIdempotencyKey.Status() {
			t.Errorf("key %q: %d", key, resp.StatusCode)
		}
	}
	r.put(fleetPath, "", wire.HeaderIdempotencyKey, long(256)).refused(wire.CodeInvalidIdempotencyKey, "header.Idempotency-Key")
	r.put(fleetPath, "", wire.HeaderIdempotencyKey, long(255)).is(201)
}

func long(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'k'
	}
	return string(b)
}
