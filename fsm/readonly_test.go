package fsm_test

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// tenantCommands are one of each kind that a tenant writes, applicable to
// populated and without effect where there is one.
func tenantCommands() []*fsmpb.Command {
	return []*fsmpb.Command{
		putTenant("acme"), deleteTenant("acme"), putFleet("default", "edge"), deleteFleet("default", "edge", true),
		change("edge", resource(fsm.TypeCluster, "a", "1")), rollback("edge", 1), putEndpoints("web", "x"), deleteEndpoints("web"),
		putSecret("s", "x"), deleteSecret("s"), deleteProxy("p1"), restore(nil, "e2"), // changes what tenants have
	}
}

// clusterCommands are one of each kind that keeps the cluster going.
func clusterCommands() []*fsmpb.Command {
	return []*fsmpb.Command{
		cluster("c1", "e1"), report("n1", 1, 99, connected("default", "p1", 99, "edge")),
		{Op: &fsmpb.Command_DropNode{DropNode: &fsmpb.DropNode{Node: "n1", ThroughStart: 1}}},
		forget(1<<62, 1000), archive(&fsmpb.ArchiveSettings{Enabled: true, MaxOutboxBytes: 1 << 20}), ack("e1", 1), readOnly(true, "again"),
		raiseLevel(fsm.SupportedLevel), membership("n1", 2, voter("n1")),
	}
}

// Every kind of command is either a tenant's, and refused, or goes on.
func TestReadOnlyKnowsEveryCommand(t *testing.T) {
	seen := map[protoreflect.FieldNumber]bool{}
	ops := (&fsmpb.Command{}).ProtoReflect().Descriptor().Oneofs().ByName("op")
	for _, c := range append(tenantCommands(), clusterCommands()...) {
		seen[c.ProtoReflect().WhichOneof(ops).Number()] = true
	}
	for i := range ops.Fields().Len() {
		if f := ops.Fields().Get(i); !seen[f.Number()] {
			t.Errorf("does %s go on while the cluster is read-only? Say so in this test", f.Name())
		}
	}
}

func TestReadOnlyRefusesTenants(t *testing.T) {
	m := populated(t)
	m.ok(putSecret("s", "x"))
	m.ok(keyed(putEndpoints("kept", "1"), "before", "r"))
	on := m.ok(readOnly(true, "moving the database"))
	if on.Index != m.state.Index() || kinds(m.events) != "read_only_set;" {
		t.Fatalf("index %d of %d, events %s", on.Index, m.state.Index(), kinds(m.events))
	}
	want := &fsmpb.ReadOnly{Index: on.Index, Since: m.state.Stamp(), By: "ann", Message: "moving the database"}
	if !proto.Equal(m.state.ReadOnly(), want) {
		t.Fatalf("got %v, want %v", m.state.ReadOnly(), want)
	}
	for _, c := range tenantCommands() {
		r := m.refused(fsm.CodeReadOnly, keyed(c, "later", "r"))
		if !strings.Contains(r.Detail, "since 2023-11-14T22:13:20Z by ann: moving the database") {
			t.Fatalf("detail %q", r.Detail)
		}
	}
	// What was applied before is still answered.
	if r := m.ok(keyed(putEndpoints("kept", "1"), "before", "r")); !r.Replayed || r.Index >= on.Index {
		t.Fatalf("got %v", r)
	}
	for _, c := range clusterCommands() {
		m.ok(c)
	}
	if !proto.Equal(m.state.ReadOnly(), want) {
		t.Fatalf("a second time changed it: %v", m.state.ReadOnly())
	}
	m.ok(readOnly(false, ""))
	// The refusals were not answers for good.
	m.ok(keyed(putTenant("later"), "later", "r"))
}

func TestReadOnlyTwice(t *testing.T) {
	m := newMachine(t)
	first := m.ok(readOnly(true, "one"))
	again := m.ok(readOnly(true, "two"))
	if !again.Unchanged || again.Index != first.Index || len(m.events) != 0 || m.state.ReadOnly().Message != "one" {
		t.Fatalf("got %v, then %v and %v", first, again, m.state.ReadOnly())
	}
	if off := m.ok(readOnly(false, "done")); off.Unchanged || off.Index != m.state.Index() || kinds(m.events) != "read_only_set;" {
		t.Fatalf("got %v, %s", off, kinds(m.events))
	}
	if off := m.ok(readOnly(false, "")); !off.Unchanged || len(m.events) != 0 {
		t.Fatalf("got %v", off)
	}
}

// Commands of one entry are in order too.
func TestReadOnlyWithinAnEntry(t *testing.T) {
	m := newMachine(t)
	_, results, _ := m.state.Apply(2, &fsmpb.Entry{Commands: []*fsmpb.Command{
		putTenant("a"), readOnly(true, ""), putTenant("b"), readOnly(false, ""), putTenant("c"),
	}})
	for i, want := range []fsm.Code{"", "", fsm.CodeReadOnly, "", ""} {
		if fsm.Code(results[i].Code) != want || results[i].Index != 2 {
			t.Errorf("command %d: %v, want %q", i, results[i], want)
		}
	}
}

func TestReadOnlyInSnapshots(t *testing.T) {
	m := populated(t)
	writable := snapshot(t, m.state)
	m.ok(readOnly(true, "why"))
	restored, err := fsm.ReadSnapshot(bytes.NewReader(snapshot(t, m.state)))
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(restored.ReadOnly(), m.state.ReadOnly()) {
		t.Fatalf("restored %v, want %v", restored.ReadOnly(), m.state.ReadOnly())
	}
	_, results, _ := restored.Apply(restored.Index()+1, &fsmpb.Entry{Commands: []*fsmpb.Command{putTenant("x")}})
	if fsm.Code(results[0].Code) != fsm.CodeReadOnly {
		t.Fatalf("a restored state takes a write: %v", results[0])
	}
	// A backup leaves it out, and nothing else.
	m = populated(t)
	m.state = m.state.WithoutReadOnly()
	if !bytes.Equal(snapshot(t, m.state), writable) {
		t.Fatal("a writable state has other bytes without the mode")
	}
	m.ok(readOnly(true, "why"))
	out := m.state.WithoutReadOnly()
	if out.ReadOnly() != nil || m.state.ReadOnly() == nil || out.Seq() != m.state.Seq() {
		t.Fatalf("got %v of %v", out.ReadOnly(), m.state.ReadOnly())
	}
}
