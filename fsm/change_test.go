package fsm_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func TestChangeMakesOneRevision(t *testing.T) {
	m := newMachine(t)
	m.ok(putFleet("default", "edge"))
	r := m.ok(change("edge", resource(fsm.TypeCluster, "b", "1"), resource(fsm.TypeListener, "l", "1"), resource(fsm.TypeCluster, "a", "1")))
	if r.Revision != 1 || !r.Created || changes(r.Changed) != "ADDED cluster/a;ADDED cluster/b;ADDED listener/l;" {
		t.Fatalf("got %v", r)
	}
	if len(m.events) != 1 || fsm.EventKind(m.events[0]) != "revision_created" || len(m.events[0].Resources) != 3 {
		t.Fatalf("events %v", m.events)
	}
	rev, ok := m.state.Revision("default", "edge", 0)
	if !ok || rev.Info.By != "ann" || rev.Info.Message != "why" || rev.Info.Index != m.state.Index() {
		t.Fatalf("revision %v", rev.Info)
	}
	a, _ := rev.Resource(fsm.TypeCluster, "a")
	if a.Version != fsm.Version(m.state.Index(), a.Hash) || rev.Len(fsm.TypeCluster) != 2 || rev.Len("none") != 0 {
		t.Fatalf("resource %v", a)
	}
	if got := rev.Types(); !slices.Equal(got, []string{fsm.TypeCluster, fsm.TypeListener}) {
		t.Fatalf("types %v", got)
	}
}

// The content behind a version is found by its hash, whatever index stands
// before it.
func TestContentOfAVersion(t *testing.T) {
	m := newMachine(t)
	m.ok(putFleet("default", "edge"))
	for _, body := range []string{"1", "2"} {
		m.ok(change("edge", resource(fsm.TypeCluster, "a", body)))
		m.ok(putEndpoints("a", body))
	}
	want := func(url, body string, there bool) {
		t.Helper()
		version := fsm.Version(99, fsm.ResourceHash([]byte(body), nil, 0))
		got, ok := m.state.Content("default", "edge", removal(url, "a"), version)
		if ok != there || ok && string(got) != body {
			t.Errorf("%s %s: %q, %v", fsm.ShortType(url), body, got, ok)
		}
	}
	want(fsm.TypeCluster, "1", true)
	want(fsm.TypeCluster, "2", true)
	want(fsm.TypeCluster, "3", false)
	want(fsm.TypeEndpoints, "1", false) // live: there is no history
	want(fsm.TypeEndpoints, "2", true)
	want(fsm.TypeSecret, "2", false)
}

func TestChangeSharesWhatItLeaves(t *testing.T) {
	m := newMachine(t)
	m.ok(putFleet("default", "edge"))
	m.ok(change("edge", resource(fsm.TypeCluster, "a", "1"), resource(fsm.TypeListener, "l", "1")))
	r := m.ok(change("edge", resource(fsm.TypeCluster, "a", "2"), resource(fsm.TypeListener, "l", "1")))
	if changes(r.Changed) != "UPDATED cluster/a;" {
		t.Fatalf("got %v", r.Changed)
	}
	one, _ := m.state.Revision("default", "edge", 1)
	two, _ := m.state.Revision("default", "edge", 2)
	if !two.SameType(one, fsm.TypeListener) || two.SameType(one, fsm.TypeCluster) {
		t.Fatal("the untouched type is not shared, or the touched one is")
	}
	if got := changes(fsm.Diff(two, one)); got != "UPDATED cluster/a;" {
		t.Fatalf("diff %s", got)
	}
	if got := changes(fsm.Diff(nil, one)); got != "ADDED cluster/a;ADDED listener/l;" {
		t.Fatalf("diff from nothing %s", got)
	}
	var numbers []uint64
	for r := range m.state.Revisions("default", "edge", 0) {
		numbers = append(numbers, r.Info.Revision)
	}
	if !slices.Equal(numbers, []uint64{2, 1}) {
		t.Fatalf("revisions %v", numbers)
	}
	for r := range m.state.Revisions("default", "edge", 2) {
		if r.Info.Revision != 1 {
			t.Fatalf("revision %d is not below 2", r.Info.Revision)
		}
	}
	for range m.state.Revisions("default", "none", 0) {
		t.Fatal("a revision of no fleet")
	}
}

func TestChangeWithoutDifference(t *testing.T) {
	m := newMachine(t)
	m.ok(putFleet("default", "edge"))
	m.ok(change("edge", resource(fsm.TypeCluster, "a", "1")))
	again := change("edge", resource(fsm.TypeCluster, "a", "1"))
	again.GetChangeFleet().Delete = []*fsmpb.ResourceKey{removal(fsm.TypeCluster, "absent"), removal(fsm.TypeListener, "absent")}
	r := m.ok(again)
	if !r.Unchanged || r.Revision != 1 || len(m.events) != 0 {
		t.Fatalf("got %v", r)
	}
	one, _ := m.state.Revision("default", "edge", 1)
	// Deleted and put again in one change set is no difference either.
	again.GetChangeFleet().Delete = []*fsmpb.ResourceKey{removal(fsm.TypeCluster, "a")}
	if r := m.ok(again); !r.Unchanged {
		t.Fatalf("got %v", r)
	}
	now, _ := m.state.Revision("default", "edge", 0)
	if now != one {
		t.Fatal("another revision")
	}
}

func TestReplaceRemovesTheRest(t *testing.T) {
	m := newMachine(t)
	m.ok(putFleet("default", "edge"))
	m.ok(change("edge", resource(fsm.TypeCluster, "a", "1"), resource(fsm.TypeCluster, "b", "1"), resource(fsm.TypeRoute, "r", "1")))
	c := change("edge", resource(fsm.TypeCluster, "b", "1"), resource(fsm.TypeCluster, "c", "1"))
	c.GetChangeFleet().Mode = fsmpb.ChangeFleet_REPLACE
	if r := m.ok(c); changes(r.Changed) != "REMOVED cluster/a;ADDED cluster/c;REMOVED route/r;" {
		t.Fatalf("got %v", r.Changed)
	}
}

func TestChangeRefusals(t *testing.T) {
	m := newMachine(t)
	m.refused(fsm.CodeFleetNotFound, change("edge"))
	m.ok(putFleet("default", "edge"))
	stray := change("edge")
	stray.GetChangeFleet().Tenant = "none"
	m.refused(fsm.CodeTenantNotFound, stray)
	m.refused(fsm.CodeInvalid, change("edge", &fsmpb.Resource{TypeUrl: fsm.TypeCluster}))

	m.ok(change("edge", resource(fsm.TypeCluster, "a", "1"), resource(fsm.TypeListener, "l", "1")))
	for _, expect := range []uint64{0, 2} {
		c := change("edge", resource(fsm.TypeCluster, "a", "2"))
		c.GetChangeFleet().ExpectRevision = proto.Uint64(expect)
		m.refused(fsm.CodeRevisionConflict, c)
	}
	c := change("edge", resource(fsm.TypeCluster, "a", "2"))
	c.GetChangeFleet().ExpectRevision = proto.Uint64(1)
	m.ok(c)

	empty := change("edge")
	empty.GetChangeFleet().Delete = []*fsmpb.ResourceKey{removal(fsm.TypeListener, "l")}
	m.refused(fsm.CodeWouldEmpty, empty)
	empty.GetChangeFleet().Force = true
	m.ok(empty)
	back := rollback("edge", 3)
	m.ok(rollback("edge", 2))
	m.refused(fsm.CodeWouldEmpty, back)
	back.GetRollbackFleet().Force = true
	m.ok(back)
}

func TestAddressConflict(t *testing.T) {
	m := newMachine(t)
	m.ok(putFleet("default", "edge"))
	binding := func(name, bind string) *fsmpb.Resource {
		r := resource(fsm.TypeListener, name, name+bind)
		r.Binds = []string{bind}
		return r
	}
	m.ok(change("edge", binding("a", "tcp/0.0.0.0:80"), binding("b", "udp/0.0.0.0:80")))
	r := m.refused(fsm.CodeAddressConflict, change("edge", resource(fsm.TypeCluster, "c", ""), binding("c", "tcp/0.0.0.0:80")))
	if len(r.Errors) != 1 || r.Errors[0].Path != "upsert[1].address" || !strings.Contains(r.Errors[0].Detail, `"a"`) {
		t.Fatalf("errors %v", r.Errors)
	}
	// Both wrong ones of a change set are named.
	r = m.refused(fsm.CodeAddressConflict, change("edge", binding("x", "tcp/[::]:1"), binding("y", "tcp/[::]:1")))
	if len(r.Errors) != 2 {
		t.Fatalf("errors %v", r.Errors)
	}
	m.ok(change("edge", binding("a", "tcp/0.0.0.0:81"), binding("c", "tcp/0.0.0.0:80")))
}

func TestWarnings(t *testing.T) {
	m := newMachine(t)
	m.ok(putFleet("default", "edge"))
	route := resource(fsm.TypeRoute, "r", "1")
	route.References = []*fsmpb.Reference{
		{Kind: fsmpb.Reference_CLUSTER, Name: "web", Path: "virtual_hosts[0].routes[0].route.cluster"},
		{Kind: fsmpb.Reference_SECRET, Name: "s", Path: "secret"},
	}
	r := m.ok(change("edge", route))
	if len(r.Warnings) != 2 || r.Warnings[1].Path != "upsert[0].secret" || r.Warnings[0].Path != "upsert[0].virtual_hosts[0].routes[0].route.cluster" {
		t.Fatalf("warnings %v", r.Warnings)
	}
	web := resource(fsm.TypeCluster, "web", "1")
	web.References = []*fsmpb.Reference{{Kind: fsmpb.Reference_ENDPOINTS, Name: "web", Path: "name"}}
	if r := m.ok(change("edge", web)); len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0].Detail, "endpoints") {
		t.Fatalf("warnings %v", r.Warnings)
	}
	m.ok(putEndpoints("web", "x"))
	web.Hash = fsm.ResourceHash([]byte("2"), nil, 0)
	if r := m.ok(change("edge", web)); len(r.Warnings) != 0 {
		t.Fatalf("warnings %v", r.Warnings)
	}
	gone := change("edge", resource(fsm.TypeCluster, "other", "1"))
	gone.GetChangeFleet().Delete = []*fsmpb.ResourceKey{removal(fsm.TypeCluster, "web")}
	r = m.ok(gone)
	if len(r.Warnings) != 1 || r.Warnings[0].Path != "delete" || !strings.Contains(r.Warnings[0].Detail, `route "r"`) {
		t.Fatalf("warnings %v", r.Warnings)
	}
}

func TestRollback(t *testing.T) {
	m := newMachine(t)
	m.ok(putFleet("default", "edge"))
	m.ok(change("edge", resource(fsm.TypeCluster, "a", "1"), resource(fsm.TypeCluster, "gone", "1")))
	c := change("edge", resource(fsm.TypeCluster, "a", "2"), resource(fsm.TypeCluster, "b", "1"))
	c.GetChangeFleet().Delete = []*fsmpb.ResourceKey{removal(fsm.TypeCluster, "gone")}
	m.ok(c)
	r := m.ok(rollback("edge", 1))
	if r.Revision != 3 || changes(r.Changed) != "UPDATED cluster/a;REMOVED cluster/b;ADDED cluster/gone;" {
		t.Fatalf("got %v", r)
	}
	one, _ := m.state.Revision("default", "edge", 1)
	three, _ := m.state.Revision("default", "edge", 3)
	if len(fsm.Diff(one, three)) != 0 || three.Info.RollbackOf != 1 {
		t.Fatal("the content is not that of revision 1")
	}
	old, _ := one.Resource(fsm.TypeCluster, "a")
	now, _ := three.Resource(fsm.TypeCluster, "a")
	if fsm.VersionHash(old.Version) != fsm.VersionHash(now.Version) || now.Index <= old.Index {
		t.Fatalf("versions %s, %s: want equal content under a later index", old.Version, now.Version)
	}
	if r := m.ok(rollback("edge", 3)); !r.Unchanged {
		t.Fatalf("got %v", r)
	}
	m.refused(fsm.CodeRevisionNotFound, rollback("edge", 4))
	m.refused(fsm.CodeRevisionNotFound, rollback("edge", 0))
	m.refused(fsm.CodeFleetNotFound, rollback("none", 1))
}

func TestRevisionHistoryIsBounded(t *testing.T) {
	m := newMachine(t)
	m.ok(putFleet("default", "edge"))
	for _, body := range []string{"1", "2", "3", "4"} {
		m.ok(change("edge", resource(fsm.TypeCluster, "a", body)))
	}
	limited := putFleet("default", "edge")
	limited.GetPutFleet().Settings = &fsmpb.FleetSettings{RevisionHistoryLimit: 2}
	m.ok(limited)
	if _, ok := m.state.Revision("default", "edge", 2); ok {
		t.Fatal("revision 2 is still there")
	}
	r := m.refused(fsm.CodeRevisionNotFound, rollback("edge", 2))
	if !strings.Contains(r.Detail, "the oldest is 3") {
		t.Fatalf("detail %q", r.Detail)
	}
	m.ok(change("edge", resource(fsm.TypeCluster, "a", "5")))
	restored, err := fsm.ReadSnapshot(strings.NewReader(string(snapshot(t, m.state))))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := restored.Revision("default", "edge", 4); !ok {
		t.Fatal("revision 4 is not restored")
	}
}

func TestDryRunLeavesTheState(t *testing.T) {
	m := newMachine(t)
	m.ok(putFleet("default", "edge"))
	before := snapshot(t, m.state)
	_, results, _ := m.state.Apply(m.state.Index()+1, &fsmpb.Entry{
		Commands: []*fsmpb.Command{change("edge", resource(fsm.TypeCluster, "a", "1"))},
	})
	if results[0].Revision != 1 {
		t.Fatalf("got %v", results[0])
	}
	if string(snapshot(t, m.state)) != string(before) {
		t.Fatal("the state moved")
	}
}
