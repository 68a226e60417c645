package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/org/envoy-control-plane/api/wire"
)

func ops(changes []wire.Change) []string {
	out := []string{}
	for _, c := range changes {
		out = append(out, c.Op+" "+c.Type+" "+c.Name)
	}
	return out
}

func TestChangeSet(t *testing.T) {
	r := newRig(t).withFleet()
	first := decoded[wire.Changed](r.post(changePath, `{"message":"why","expect_revision":0,"upsert":[`+
		cluster("web", "")+`,`+listener("in", `,"needs":"nowhere"`)+`]}`), 201)
	if first.Revision != 1 || first.Index == 0 || first.DryRun || first.Affected != nil {
		t.Errorf("first: %+v", first)
	}
	if got := ops(first.Changed); !slices.Equal(got, []string{"added cluster web", "added listener in"}) {
		t.Errorf("changed: %v", got)
	}
	if len(first.Warnings) != 1 || first.Warnings[0].Path != "upsert[1].needs" {
		t.Errorf("warnings: %+v", first.Warnings)
	}
	same := decoded[wire.Changed](r.post(changePath, `{"upsert":[`+cluster("web", "")+`]}`), 200)
	if same.Revision != 1 || len(same.Changed) != 0 || same.Changed == nil {
		t.Errorf("no difference: %+v", same)
	}
	next := decoded[wire.Changed](r.post(changePath, `{"mode":"replace","upsert":[`+
		cluster("api", "")+`,`+listener("in", "")+`]}`), 201)
	want := []string{"added cluster api", "removed cluster web", "updated listener in"}
	if got := ops(next.Changed); !slices.Equal(got, want) {
		t.Errorf("changed: %v", got)
	}
	gone := `{"delete":[{"type":"listener","name":"never"},{"type":"envoy.config.route.v3.RouteConfiguration","name":"x"}]}`
	decoded[wire.Changed](r.post(changePath, gone), 200)
	rev := decoded[wire.Revision](r.get(fleetPath+"/revisions/1"), 200)
	if rev.Message != "why" || rev.By != "anonymous" || rev.Index != first.Index || rev.At.IsZero() ||
		rev.Resources["cluster"] != 1 {
		t.Errorf("revision: %+v", rev)
	}
}

func TestChangeRefusals(t *testing.T) {
	r := newRig(t).withFleet()
	r.change(cluster("web", ""), listener("in", `,"binds":["tcp/1"]`))
	before := r.ledger.state().Index()
	r.post(changePath, `{"expect_revision":0}`).refused(wire.CodeRevisionConflict)
	r.post(changePath, `{"delete":[{"type":"listener","name":"in"}]}`).refused(wire.CodeWouldEmpty)
	r.post(changePath, `{"upsert":[`+listener("too", `,"binds":["tcp/1"]`)+`]}`).
		refused(wire.CodeAddressConflict, "upsert[0].address")
	r.post("/api/v1/tenants/default/fleets/none/changes", `{}`).refused(wire.CodeFleetNotFound)
	r.post("/api/v1/tenants/none/fleets/edge/changes", `{}`).refused(wire.CodeTenantNotFound)
	if got := decoded[wire.Fleet](r.get(fleetPath), 200); got.Revision != 1 {
		t.Errorf("refused changes made revision %d", got.Revision)
	}
	if r.ledger.state().Index() != before+5 {
		t.Errorf("refusals that depend on state are decided in the log")
	}
	r.post(changePath+"?force=true", `{"delete":[{"type":"listener","name":"in"}]}`).is(201)
}

// TestChangeSetMistakes: what the body alone shows is refused by the node,
// every mistake of it, and nothing reaches the log.
func TestChangeSetMistakes(t *testing.T) {
	r := newRig(t).withFleet()
	before := r.ledger.state().Index()
	bad := func(code wire.Code) string { return cluster("x", `,"bad":"`+string(code)+`"`) }
	for _, c := range []struct {
		body  string
		code  wire.Code
		paths []string
	}{
		{`{"upsert":[` + cluster("a", "") + `,` + cluster("a", `,"x":1`) + `]}`, wire.CodeDuplicateName, []string{"upsert[1]"}},
		{`{"upsert":[` + cluster("a", "") + `],"delete":[{"type":"cluster","name":"a"}]}`, wire.CodeDuplicateName, []string{"delete[0]"}},
		{`{"delete":[{"type":"endpoints","name":"a"},{"type":"secret","name":"b"}]}`, wire.CodeNotStaged, []string{"delete[0].type", "delete[1].type"}},
		{`{"delete":[{"type":"nonsense","name":"a"}]}`, wire.CodeUnknownType, []string{"delete[0].type"}},
		{`{"delete":[{"type":"","name":"a"}]}`, wire.CodeUnknownType, []string{"delete[0].type"}},
		{`{"delete":[{"type":"cluster","name":""}]}`, wire.CodeInvalidName, []string{"delete[0].name"}},
		{`{"upsert":[` + cluster(`a\u0000`, "") + `]}`, wire.CodeInvalidName, []string{"upsert[0].name"}},
		{`{"upsert":[` + cluster(strings.Repeat("x", 1025), "") + `]}`, wire.CodeInvalidName, []string{"upsert[0].name"}},
		{`{"mesage":"x","delete":[{"typ":"cluster"}]}`, wire.CodeUnknownField, []string{"mesage", "delete[0].typ"}},
		{`{"mode":"purge"}`, wire.CodeInvalid, []string{"mode"}},
		{`{"mode":1,"message":[],"expect_revision":-1,"upsert":{},"delete":"x"}`, wire.CodeInvalid, []string{"mode", "message", "expect_revision", "upsert", "delete"}},
		{`{"message":"a","message":"b"}`, wire.CodeInvalid, []string{"message"}},
		{`{"message":"` + strings.Repeat("x", 4097) + `"}`, wire.CodeInvalid, []string{"message"}},
		{`{"upsert":[1,{}]}`, wire.CodeUnknownType, []string{"upsert[0]", "upsert[1]"}},
		{`{"upsert":[` + bad(wire.CodeInvalidResource) + `]}`, wire.CodeInvalidResource, []string{"upsert[0].bad"}},
		{`{"upsert":[` + bad(wire.CodeInlineSecret) + `,` + bad(wire.CodeInlineSecret) + `]}`, wire.CodeInlineSecret, []string{"upsert[0].bad", "upsert[1].bad"}},
		{`{"upsert":[` + bad(wire.CodeInlineSecret) + `,` + bad(wire.CodeUnknownField) + `]}`, wire.CodeInvalid, []string{"upsert[0].bad", "upsert[1].bad"}},
		{`null`, wire.CodeInvalid, []string{""}},
		{``, wire.CodeInvalid, []string{""}},
		{`"x"`, wire.CodeInvalid, []string{""}},
	} {
		r.post(changePath, c.body).refused(c.code, c.paths...)
		r.post(changePath+"?dry_run=true", c.body).refused(c.code, c.paths...)
	}
	if after := r.ledger.state().Index(); after != before {
		t.Errorf("bad bodies moved the log from %d to %d", before, after)
	}
}

// TestManyMistakesAreBounded: a body of nothing but mistakes costs no more
// than a bounded answer.
func TestManyMistakesAreBounded(t *testing.T) {
	r := newRig(t).withFleet()
	body := `{"delete":[` + strings.Repeat("1,", 200_000) + `1]}`
	if p := r.post(changePath, body).refused(wire.CodeInvalid); len(p.Errors) != 1000 {
		t.Errorf("%d mistakes named", len(p.Errors))
	}
}

func TestDryRun(t *testing.T) {
	r := newRig(t).withFleet()
	r.change(cluster("web", ""), listener("in", ""))
	connect(t, r.ledger, "default", "edge", "p1", "10.0.0.1:1", 1)
	connect(t, r.ledger, "default", "other", "p2", "10.0.0.2:1", 2)
	before := r.ledger.state().Index()
	body := `{"upsert":[` + cluster("web", `,"v":2`) + `],"delete":[{"type":"listener","name":"gone"}]}`
	got := decoded[wire.Changed](r.post(changePath+"?dry_run=true&content=true", body), 200)
	if !got.DryRun || got.Revision != 1 || got.Index != before || got.Changed[0].Version != "" {
		t.Errorf("dry run: %+v", got)
	}
	if got.Affected == nil || got.Affected.Connected != 1 || !slices.Equal(got.Affected.Proxies, []string{"p1"}) {
		t.Errorf("affected: %+v", got.Affected)
	}
	if c := got.Changed[0]; string(c.Before) != cluster("web", "") || string(c.After) != cluster("web", `,"v":2`) {
		t.Errorf("content: %+v", c)
	}
	none := decoded[wire.Changed](r.post(changePath+"?dry_run=true", `{}`), 200)
	if len(none.Changed) != 0 || none.Affected.Connected != 0 || none.Revision != 1 {
		t.Errorf("no difference: %+v", none)
	}
	r.post(changePath+"?dry_run=true", `{"expect_revision":9}`).refused(wire.CodeRevisionConflict)
	r.post(changePath+"?dry_run=true", `{"delete":[{"type":"listener","name":"in"}]}`).refused(wire.CodeWouldEmpty)
	r.post(changePath+"?dry_run=true&force=true", `{"delete":[{"type":"listener","name":"in"}]}`).is(200)
	back := decoded[wire.Changed](r.post(fleetPath+"/rollback?dry_run=true", `{"to":1}`), 200)
	if !back.DryRun || len(back.Changed) != 0 {
		t.Errorf("rollback: %+v", back)
	}
	if after := r.ledger.state().Index(); after != before {
		t.Errorf("dry runs moved the log from %d to %d", before, after)
	}
	r.post(changePath+"?content=true", `{}`).refused(wire.CodeInvalidParameter, "query.content")
}

func TestRevisionsDiffAndRollback(t *testing.T) {
	r := newRig(t).withFleet()
	r.change(cluster("a", ""))
	r.change(cluster("b", ""))
	r.change(cluster("a", `,"v":2`))
	list := decoded[wire.List[wire.Revision]](r.get(fleetPath+"/revisions?limit=2"), 200)
	if len(list.Items) != 2 || list.Items[0].Revision != 3 || list.Items[1].Revision != 2 {
		t.Fatalf("revisions: %+v", list)
	}
	rest := decoded[wire.List[wire.Revision]](r.get(fleetPath+"/revisions?limit=2&cursor="+list.Next), 200)
	if len(rest.Items) != 1 || rest.Items[0].Revision != 1 || rest.Next != "" {
		t.Errorf("rest: %+v", rest)
	}
	for path, want := range map[string][]string{
		"/revisions/3/diff":        {"updated cluster a"},
		"/revisions/3/diff?from=1": {"updated cluster a", "added cluster b"},
		"/revisions/3/diff?from=0": {"added cluster a", "added cluster b"},
		"/revisions/1/diff?from=3": {"updated cluster a", "removed cluster b"},
		"/revisions/1/diff":        {"added cluster a"},
	} {
		if got := decoded[wire.Diff](r.get(fleetPath+path), 200); !slices.Equal(ops(got.Changed), want) {
			t.Errorf("%s: %v", path, ops(got.Changed))
		}
	}
	full := decoded[wire.Diff](r.get(fleetPath+"/revisions/1/diff?from=3&content=true"), 200)
	if string(full.Changed[0].Before) != cluster("a", `,"v":2`) || full.Changed[1].After != nil {
		t.Errorf("content: %+v", full)
	}
	r.get(fleetPath + "/revisions/9").refused(wire.CodeRevisionNotFound)
	r.get(fleetPath + "/revisions/3/diff?from=9").refused(wire.CodeRevisionNotFound)

	rollback := fleetPath + "/rollback"
	back := decoded[wire.Changed](r.post(rollback, `{"to":1,"message":"oops","expect_revision":3}`), 201)
	if back.Revision != 4 || !slices.Equal(ops(back.Changed), []string{"updated cluster a", "removed cluster b"}) {
		t.Errorf("rollback: %+v", back)
	}
	if got := decoded[wire.Revision](r.get(fleetPath+"/revisions/4"), 200); got.RollbackOf != 1 || got.Message != "oops" {
		t.Errorf("revision: %+v", got)
	}
	r.post(rollback, `{"to":1}`).is(200)
	r.post(rollback, `{"to":9}`).refused(wire.CodeRevisionNotFound)
	r.post(rollback, `{"to":1,"expect_revision":3}`).refused(wire.CodeRevisionConflict)
	r.post(rollback, `{}`).refused(wire.CodeInvalid, "to")
	r.post(rollback, ``).refused(wire.CodeInvalid, "")
	r.post(rollback, `{"to":"1","too":1}`).refused(wire.CodeInvalid, "to", "too")
}

func TestResources(t *testing.T) {
	r := newRig(t).withFleet()
	if got := decoded[wire.List[wire.Resource]](r.get(fleetPath+"/resources"), 200); len(got.Items) != 0 {
		t.Errorf("empty fleet: %+v", got)
	}
	r.change(cluster("a", ""), cluster("b/c", ""), listener("in", ""))
	r.change(cluster("a", `,"v":2`))
	list := decoded[wire.List[wire.Resource]](r.get(fleetPath+"/resources?type=cluster"), 200)
	if len(list.Items) != 2 || string(list.Items[0].Resource) != cluster("a", `,"v":2`) {
		t.Errorf("clusters: %+v", list)
	}
	old := decoded[wire.List[wire.Resource]](r.get(fleetPath+"/resources?type=envoy.config.cluster.v3.Cluster&revision=1"), 200)
	if string(old.Items[0].Resource) != cluster("a", "") || !strings.HasPrefix(old.Items[0].Version, fmt.Sprint(old.Items[0].Index)+"-") {
		t.Errorf("clusters of revision 1: %+v", old)
	}
	one := decoded[wire.Resource](r.get(fleetPath+"/resources/cluster/b%2Fc"), 200)
	if one.Name != "b/c" || one.Type != "cluster" {
		t.Errorf("resource: %+v", one)
	}
	decoded[wire.Resource](r.get(fleetPath+"/resources/envoy.config.cluster.v3.Cluster/a?revision=1"), 200)
	r.get(fleetPath + "/resources/cluster/none").refused(wire.CodeResourceNotFound)
	r.get(fleetPath+"/resources/nonsense/a").refused(wire.CodeUnknownType, "path.type")
	r.get(fleetPath+"/resources?type=nonsense").refused(wire.CodeUnknownType, "query.type")
	r.get(fleetPath + "/resources?revision=9").refused(wire.CodeRevisionNotFound)
	r.get(fleetPath+"/resources?revision=x").refused(wire.CodeInvalidParameter, "query.revision")
}

// TestResourcePagesAreOfOneRevision, whatever is written between them.
func TestResourcePagesAreOfOneRevision(t *testing.T) {
	r := newRig(t).withFleet()
	r.change(cluster("a", ""), cluster("b", ""), listener("in", ""))
	page := decoded[wire.List[wire.Resource]](r.get(fleetPath+"/resources?limit=1"), 200)
	r.change(cluster("aa", ""), cluster("b", `,"v":2`))
	var names []string
	for page.Next != "" {
		page = decoded[wire.List[wire.Resource]](r.get(fleetPath+"/resources?limit=1&cursor="+page.Next), 200)
		names = append(names, string(page.Items[0].Resource))
	}
	if want := []string{cluster("b", ""), listener("in", "")}; !slices.Equal(names, want) {
		t.Errorf("pages: %v", names)
	}
}

func TestEndpoints(t *testing.T) {
	r := newRig(t)
	const services = "/api/v1/tenants/default/endpoints"
	path := services + "/web%2Fv1%20%C3%A4"
	made := decoded[wire.EndpointsWritten](r.put(path, `{"cluster_name":"web/v1 ä"}`), 201)
	if made.Service != "web/v1 ä" || made.Unchanged {
		t.Errorf("created: %+v", made)
	}
	if same := decoded[wire.EndpointsWritten](r.put(path, `{"cluster_name":"web/v1 ä"}`), 200); !same.Unchanged {
		t.Errorf("same: %+v", same)
	}
	decoded[wire.EndpointsWritten](r.put(path, "endpoints: []\n", "Content-Type", "application/yaml"), 200)
	got := decoded[wire.Endpoints](r.get(path), 200)
	if got.Service != "web/v1 ä" || string(got.Resource) != `{"endpoints":[]}` || got.By != "anonymous" || got.At.IsZero() {
		t.Errorf("endpoints: %+v", got)
	}
	if list := decoded[wire.List[wire.Endpoints]](r.get(services), 200); len(list.Items) != 1 {
		t.Errorf("list: %+v", list)
	}
	r.put(path, `{"cluster_name":"other"}`).refused(wire.CodeInvalid, "cluster_name")
	r.put(path, ``).refused(wire.CodeInvalid, "")
	r.get(services + "/none").refused(wire.CodeEndpointsNotFound)
	r.delete(services + "/none").refused(wire.CodeEndpointsNotFound)
	r.delete(path).is(http.StatusOK)
	r.get(path).refused(wire.CodeEndpointsNotFound)
	r.get("/api/v1/tenants/none/endpoints").refused(wire.CodeTenantNotFound)
	if !json.Valid(got.Resource) {
		t.Error("not JSON")
	}
}
