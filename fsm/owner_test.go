package fsm_test

import (
	"strconv"
	"testing"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func TestTenants(t *testing.T) {
	m := newMachine(t)
	if _, ok := m.state.Tenant("default"); !ok {
		t.Fatal("no default tenant")
	}
	if r := m.ok(putTenant("acme")); !r.Created {
		t.Fatalf("got %v", r)
	}
	if r := m.ok(putTenant("acme")); !r.Unchanged {
		t.Fatalf("got %v", r)
	}
	labelled := putTenant("acme")
	labelled.GetPutTenant().Labels = map[string]string{"team": "x"}
	if r := m.ok(labelled); r.Created || r.Unchanged {
		t.Fatalf("got %v", r)
	}
	row, _ := m.state.Tenant("acme")
	if row.Labels["team"] != "x" || row.CreatedIndex >= row.Index {
		t.Fatalf("row %v", row)
	}
	var names []string
	for row := range m.state.Tenants("acme") {
		names = append(names, row.Name)
	}
	if len(names) != 1 || names[0] != "default" {
		t.Fatalf("after acme: %v", names)
	}
	m.refused(fsm.CodeInvalid, putTenant(""))
	m.refused(fsm.CodeTenantNotFound, deleteTenant("none"))
	m.refused(fsm.CodeTenantProtected, deleteTenant("default"))
	m.ok(deleteTenant("acme"))
}

func TestTenantIsDeletedOnlyEmpty(t *testing.T) {
	m := newMachine(t)
	m.ok(putTenant("acme"))
	m.ok(putFleet("acme", "edge"))
	m.refused(fsm.CodeTenantNotEmpty, deleteTenant("acme"))
	m.ok(deleteFleet("acme", "edge", false))
	eds := putEndpoints("web", "x")
	eds.GetPutEndpoints().Tenant = "acme"
	m.ok(eds)
	m.refused(fsm.CodeTenantNotEmpty, deleteTenant("acme"))
	gone := deleteEndpoints("web")
	gone.GetDeleteEndpoints().Tenant = "acme"
	m.ok(gone)
	secret, unsecret := putSecret("tls", "x"), deleteSecret("tls")
	secret.GetPutSecret().Tenant, unsecret.GetDeleteSecret().Tenant = "acme", "acme"
	m.ok(secret)
	m.refused(fsm.CodeTenantNotEmpty, deleteTenant("acme"))
	m.ok(unsecret)
	m.ok(report("n1", 1, 1, connected("acme", "p", 1, "edge")))
	m.refused(fsm.CodeTenantNotEmpty, deleteTenant("acme"))
	m.ok(report("n1", 1, 2, disconnected("acme", "p", 1)))
	m.ok(deleteTenant("acme"))
	if _, ok := m.state.Proxy("acme", "p"); ok {
		t.Fatal("the proxy outlived its tenant")
	}
	seq := m.state.TenantSeq("acme")
	m.ok(putTenant("acme"))
	if m.state.TenantSeq("acme") != seq+1 {
		t.Fatal("the tenant's numbers began anew")
	}
}

func TestFleets(t *testing.T) {
	m := newMachine(t)
	m.refused(fsm.CodeTenantNotFound, putFleet("none", "edge"))
	m.refused(fsm.CodeInvalid, putFleet("default", ""))
	m.ok(putFleet("default", "edge"))
	m.ok(change("edge", resource(fsm.TypeCluster, "a", "1")))
	if r := m.ok(putFleet("default", "edge")); !r.Unchanged || r.Revision != 1 {
		t.Fatalf("got %v", r)
	}
	labelled := putFleet("default", "edge")
	labelled.GetPutFleet().Labels = map[string]string{"zone": "eu"}
	if r := m.ok(labelled); r.Revision != 1 || r.Created {
		t.Fatalf("got %v", r)
	}
	m.ok(putFleet("default", "edge-2"))
	n := 0
	for f := range m.state.Fleets("default", "") {
		if n++; f.Tenant != "default" {
			t.Fatalf("row %v", f)
		}
	}
	if n != 2 {
		t.Fatalf("%d fleets", n)
	}
	m.ok(report("n1", 1, 1, connected("default", "p", 1, "edge")))
	m.refused(fsm.CodeFleetHasProxies, deleteFleet("default", "edge", false))
	m.ok(deleteFleet("default", "edge", true))
	m.refused(fsm.CodeFleetNotFound, deleteFleet("default", "edge", true))
	if _, ok := m.state.Revision("default", "edge", 1); ok {
		t.Fatal("a revision outlived its fleet")
	}
	if _, ok := m.state.Fleet("default", "edge-2"); !ok {
		t.Fatal("the neighbour with a longer name went too")
	}
}

func TestEndpoints(t *testing.T) {
	m := newMachine(t)
	if r := m.ok(putEndpoints("web", "1")); !r.Created {
		t.Fatalf("got %v", r)
	}
	if r := m.ok(putEndpoints("web", "1")); !r.Unchanged {
		t.Fatalf("got %v", r)
	}
	if r := m.ok(putEndpoints("web", "2")); r.Created || string(m.events[0].Endpoints) != "2" {
		t.Fatalf("got %v", r)
	}
	n := 0
	for range m.state.EndpointsOf("default", "") {
		n++
	}
	if row, _ := m.state.Endpoints("default", "web"); n != 1 || row.Version != fsm.Version(row.Index, row.Hash) {
		t.Fatalf("%d rows, %v", n, row)
	}
	stray := putEndpoints("web", "1")
	stray.GetPutEndpoints().Tenant = "none"
	m.refused(fsm.CodeTenantNotFound, stray)
	m.refused(fsm.CodeInvalid, putEndpoints("", "1"))
	m.ok(deleteEndpoints("web"))
	m.refused(fsm.CodeEndpointsNotFound, deleteEndpoints("web"))
	strayed := deleteEndpoints("web")
	strayed.GetDeleteEndpoints().Tenant = "none"
	m.refused(fsm.CodeTenantNotFound, strayed)
}

func TestClusterIsInitializedOnce(t *testing.T) {
	s := fsm.New()
	if s.Identity() != nil {
		t.Fatal("an identity before the first command")
	}
	s, r, _ := s.Apply(1, &fsmpb.Entry{Commands: []*fsmpb.Command{cluster("", "")}})
	if r[0].Code != string(fsm.CodeInvalid) {
		t.Fatalf("got %v", r[0])
	}
	s, _, _ = s.Apply(2, &fsmpb.Entry{Commands: []*fsmpb.Command{cluster("c1", "e1"), cluster("c2", "e2")}})
	if s.Identity().ClusterId != "c1" || s.FeatureLevel() != fsm.SupportedLevel {
		t.Fatalf("identity %v", s.Identity())
	}
}

func TestUnknownCommandIsRefused(t *testing.T) {
	m := newMachine(t)
	m.refused(fsm.CodeInvalid, &fsmpb.Command{})
}

func TestLogTimeNeverGoesBack(t *testing.T) {
	s, _, _ := fsm.New().Apply(1, &fsmpb.Entry{Stamp: 10})
	s, _, _ = s.Apply(2, &fsmpb.Entry{Stamp: 5})
	if s.Stamp() != 10 || s.Index() != 2 {
		t.Fatalf("stamp %d, index %d", s.Stamp(), s.Index())
	}
}

func TestIdempotencyKeys(t *testing.T) {
	m := newMachine(t)
	first := m.ok(keyed(putFleet("default", "edge"), "k", "request"))
	if first.Replayed {
		t.Fatal("the first is no replay")
	}
	again := m.ok(keyed(putFleet("default", "edge"), "k", "request"))
	if !again.Replayed || !again.Created || again.Index != first.Index {
		t.Fatalf("got %v", again)
	}
	m.refused(fsm.CodeIdempotencyMismatch, keyed(putFleet("default", "edge"), "k", "another request"))
	// A key belongs to its tenant and subject.
	m.ok(putTenant("acme"))
	if r := m.ok(keyed(putFleet("acme", "edge"), "k", "request")); r.Replayed {
		t.Fatalf("got %v", r)
	}
	other := keyed(putFleet("default", "edge"), "k", "x")
	other.By = "bob"
	if r := m.ok(other); r.Replayed {
		t.Fatalf("got %v", r)
	}
	// A refusal is an answer too.
	m.refused(fsm.CodeFleetNotFound, keyed(deleteFleet("default", "none", false), "k2", "r"))
	m.ok(putFleet("default", "none"))
	if r := m.do(keyed(deleteFleet("default", "none", false), "k2", "r")); !r.Replayed || r.Code == "" {
		t.Fatalf("got %v", r)
	}
	// After a day of log time a key is free again.
	m.now += 25 * 3600 * 1e9
	m.ok(putTenant("later"))
	if r := m.ok(keyed(putFleet("default", "edge"), "k", "another request")); r.Replayed {
		t.Fatalf("got %v", r)
	}
}

func TestRememberedWritesAreBounded(t *testing.T) {
	const n = 100_001
	s := fsm.New()
	entry := &fsmpb.Entry{Stamp: 1}
	for i := range n {
		entry.Commands = append(entry.Commands, keyed(putTenant("acme"), strconv.Itoa(i), "r"))
	}
	s, _, _ = s.Apply(1, entry)
	for i, want := range map[int]bool{0: false, 1: true, n - 1: true} {
		_, r, _ := s.Apply(2, &fsmpb.Entry{Stamp: 2, Commands: entry.Commands[i : i+1]})
		if r[0].Replayed != want {
			t.Errorf("write %d: replayed %v, want %v", i, r[0].Replayed, want)
		}
	}
}
