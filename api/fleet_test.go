package api_test

import (
	"fmt"
	"maps"
	"net/http"
	"testing"

	"github.com/org/envoy-control-plane/api/wire"
)

func TestTenants(t *testing.T) {
	r := newRig(t)
	if got := decoded[wire.Tenant](r.get("/api/v1/tenants/default"), 200); got.Name != "default" {
		t.Errorf("default tenant: %+v", got)
	}
	made := decoded[wire.TenantWritten](r.put("/api/v1/tenants/acme", `{"labels":{"env":"prod"}}`), 201)
	if made.Name != "acme" || made.Labels["env"] != "prod" || made.Unchanged {
		t.Errorf("created: %+v", made)
	}
	again := decoded[wire.TenantWritten](r.put("/api/v1/tenants/acme", `{"labels":{"env":"prod"}}`), 200)
	if !again.Unchanged {
		t.Errorf("put again: %+v", again)
	}
	got := decoded[wire.Tenant](r.get("/api/v1/tenants/acme"), 200)
	if got.Index != made.Index || !maps.Equal(got.Labels, map[string]string{"env": "prod"}) {
		t.Errorf("got %+v, made %+v", got, made)
	}
	decoded[wire.TenantWritten](r.put("/api/v1/tenants/acme", ""), 200)
	if got := decoded[wire.Tenant](r.get("/api/v1/tenants/acme"), 200); len(got.Labels) != 0 {
		t.Errorf("labels are left: %+v", got)
	}
	r.get("/api/v1/tenants/none").refused(wire.CodeTenantNotFound)
	r.delete("/api/v1/tenants/none").refused(wire.CodeTenantNotFound)
	r.delete("/api/v1/tenants/default").refused(wire.CodeTenantProtected)
	r.put("/api/v1/tenants/acme/fleets/a", "").is(201)
	r.delete("/api/v1/tenants/acme").refused(wire.CodeTenantNotEmpty)
	r.delete("/api/v1/tenants/acme/fleets/a").is(200)
	if got := decoded[wire.Deleted](r.delete("/api/v1/tenants/acme"), 200); got.Index != r.ledger.state().Index() {
		t.Errorf("deleted: %+v", got)
	}
	r.get("/api/v1/tenants/acme").refused(wire.CodeTenantNotFound)
}

func TestFleets(t *testing.T) {
	r := newRig(t)
	r.put("/api/v1/tenants/none/fleets/a", "").refused(wire.CodeTenantNotFound)
	r.get("/api/v1/tenants/none/fleets").refused(wire.CodeTenantNotFound)
	body := `{"labels":{"zone":"eu"},"settings":{"revision_history_limit":7}}`
	made := decoded[wire.FleetWritten](r.put(fleetPath, body), 201)
	if made.Name != "edge" || made.Tenant != "default" || made.Revision != 0 || made.Settings.RevisionHistoryLimit != 7 {
		t.Errorf("created: %+v", made)
	}
	r.change(cluster("web", ""))
	if got := decoded[wire.FleetWritten](r.put(fleetPath, body), 200); !got.Unchanged || got.Revision != 1 {
		t.Errorf("put again: %+v", got)
	}
	connect(t, r.ledger, "default", "edge", "p1", "10.0.0.1:1", 1)
	connect(t, r.ledger, "default", "other", "p2", "10.0.0.2:1", 2)
	got := decoded[wire.Fleet](r.get(fleetPath), 200)
	if got.Revision != 1 || got.Proxies != 1 || got.Connected != 1 || got.Labels["zone"] != "eu" {
		t.Errorf("fleet: %+v", got)
	}
	r.get("/api/v1/tenants/default/fleets/none").refused(wire.CodeFleetNotFound)
	r.delete(fleetPath).refused(wire.CodeFleetHasProxies)
	r.delete(fleetPath + "?force=true").is(200)
	r.delete(fleetPath).refused(wire.CodeFleetNotFound)
}

func TestFleetBodyNamesEveryMistake(t *testing.T) {
	r := newRig(t)
	r.put(fleetPath, `{"labels":{"a":1},"settings":{"revision_history_limit":20000,"x":1},"y":2}`).
		refused(wire.CodeInvalid, "labels.a", "settings.x", "settings.revision_history_limit", "y")
	r.put(fleetPath, `[]`).refused(wire.CodeInvalid, "")
	r.put(fleetPath, `{"labels":{"":"x"}}`).refused(wire.CodeInvalid, "labels.")
	r.put(fleetPath, `{"labels":"x"}`).refused(wire.CodeInvalid, "labels")
	r.put(fleetPath, `{"nope":1}`).refused(wire.CodeUnknownField, "nope")
	r.get(fleetPath).refused(wire.CodeFleetNotFound)
}

// TestPages walks a list page by page and sees every item once.
func TestPages(t *testing.T) {
	r := newRig(t)
	for i := range 7 {
		r.put(fmt.Sprintf("/api/v1/tenants/default/fleets/f%d", i), "").is(201)
	}
	var seen []string
	path := "/api/v1/tenants/default/fleets?limit=3"
	for pages := 1; ; pages++ {
		got := decoded[wire.List[wire.Fleet]](r.get(path), 200)
		for _, f := range got.Items {
			seen = append(seen, f.Name)
		}
		if got.Next == "" {
			if pages != 3 {
				t.Errorf("%d pages", pages)
			}
			break
		}
		path = "/api/v1/tenants/default/fleets?limit=3&cursor=" + got.Next
	}
	if fmt.Sprint(seen) != "[f0 f1 f2 f3 f4 f5 f6]" {
		t.Errorf("seen %v", seen)
	}
	next := decoded[wire.List[wire.Fleet]](r.get("/api/v1/tenants/default/fleets?limit=3"), 200).Next
	r.get("/api/v1/tenants?cursor=" + next).refused(wire.CodeInvalidCursor)
	r.get("/api/v1/tenants?cursor=%21").refused(wire.CodeInvalidCursor)
	for _, limit := range []string{"0", "1001", "-1", "x"} {
		r.get("/api/v1/tenants?limit="+limit).refused(wire.CodeInvalidParameter, "query.limit")
	}
	if got := decoded[wire.List[wire.Tenant]](r.get("/api/v1/tenants"), 200); len(got.Items) != 1 {
		t.Errorf("tenants: %+v", got)
	}
}

// TestNames: names outside their patterns are refused before anything is
// looked up, all of a path at once.
func TestNames(t *testing.T) {
	r := newRig(t).withFleet()
	for _, name := range []string{"UPPER", "default%2Ffleets", "-a", "a-", "%C3%A4", "a%2Fb", "a%20b", string(make64())} {
		r.get("/api/v1/tenants/"+name).refused(wire.CodeInvalidName, "path.tenant")
		r.put("/api/v1/tenants/default/fleets/"+name, "").refused(wire.CodeInvalidName, "path.fleet")
	}
	r.get("/api/v1/tenants/A/fleets/B").refused(wire.CodeInvalidName, "path.fleet", "path.tenant")
	r.get(fleetPath+"/revisions/x").refused(wire.CodeInvalidName, "path.revision")
	r.get(fleetPath+"/revisions/0").refused(wire.CodeInvalidName, "path.revision")
	r.get(fleetPath+"/resources/cluster/a%0Ab").refused(wire.CodeInvalidName, "path.name")
	r.get(fleetPath+"/resources/cluster/a%FFb").refused(wire.CodeInvalidName, "path.name")
	for _, name := range []string{"a", "0", "a.b-c_d", "a-1"} {
		r.send(http.MethodPut, "/api/v1/tenants/"+name, "").is(201)
	}
}

// make64 is one character too long for a tenant.
func make64() []byte {
	name := make([]byte, 64)
	for i := range name {
		name[i] = 'a'
	}
	return name
}
