package fsm_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// take puts the present state of another cluster at hand as a backup.
func (m *machine) take(of *machine) (sha256 []byte) {
	m.t.Helper()
	read := m.reread(of.state)
	sum, err := of.state.Hash()
	if err != nil {
		m.t.Fatal(err)
	}
	if m.backups == nil {
		m.backups = map[string]*fsm.State{}
	}
	m.backups[string(sum[:])] = read
	return sum[:]
}

func restore(sha256 []byte, epoch string) *fsmpb.Command {
	return &fsmpb.Command{By: "ann", Op: &fsmpb.Command_RestoreState{RestoreState: &fsmpb.RestoreState{
		Sha256: sha256, Epoch: epoch,
	}}}
}

// names lists what a restore is about.
func names(st *fsm.State) string {
	var out []string
	for t := range st.Tenants("") {
		out = append(out, t.Name)
		for f := range st.Fleets(t.Name, "") {
			out = append(out, f.Name)
		}
		for e := range st.EndpointsOf(t.Name, "") {
			out = append(out, e.Service)
		}
		for x := range st.SecretsOf(t.Name, "") {
			out = append(out, x.Name)
		}
	}
	return strings.Join(out, " ")
}

// A restore takes the configuration back, and nothing of what is about the
// present: proxies, and events that are not archived.
func TestRestore(t *testing.T) {
	m := newMachine(t)
	m.ok(putFleet("default", "edge"))
	m.ok(change("edge", resource(fsm.TypeCluster, "a", "1")))
	m.ok(putEndpoints("web", "one"))
	again := keyed(change("edge", resource(fsm.TypeCluster, "a", "2")), "k", "h")
	before := names(m.state)
	sum := m.take(m)

	m.ok(report("n1", 1, 1, connected("default", "p", 1, "edge")))
	m.ok(putTenant("later"))
	m.ok(again)
	m.ok(putEndpoints("late", "two"))
	m.ok(deleteEndpoints("web"))
	m.ok(readOnly(true, "why"))
	m.refused(fsm.CodeReadOnly, restore(sum, "e2"))
	m.ok(readOnly(false, ""))
	seq, tenantSeq, first := m.state.Seq(), m.state.TenantSeq("default"), m.state.FirstSeq()
	m.refused(fsm.CodeInvalid, restore([]byte("other"), "e2"))
	m.refused(fsm.CodeInvalid, restore(sum, ""))
	m.ok(restore(sum, "e2"))

	if got := names(m.state); got != before {
		t.Errorf("there is %q, not %q", got, before)
	}
	if r, _ := m.state.Revision("default", "edge", 0); r.Info.Revision != 1 {
		t.Errorf("revision %d", r.Info.Revision)
	}
	if p, ok := m.state.Proxy("default", "p"); !ok || len(p.Streams) != 1 {
		t.Errorf("the proxy that is connected: %v", p)
	}
	id := m.state.Identity()
	if id.ClusterId != "c1" || id.Epoch != "e2" || id.ParentEpoch != "e1" || id.ParentSeq != seq || id.ParentClusterId != "" {
		t.Errorf("identity %v", id)
	}
	if m.state.Seq() != seq+1 || m.state.FirstSeq() != first || m.state.TenantSeq("default") != tenantSeq {
		t.Errorf("sequences %d from %d, %d of the tenant", m.state.Seq(), m.state.FirstSeq(), m.state.TenantSeq("default"))
	}
	if kinds(m.events) != "state_restored;" || !strings.Contains(data(t, m.events[0]), `"from_seq"`) {
		t.Errorf("events %v", m.events)
	}
	// What was answered to a write that is undone is not answered again.
	if r := m.ok(again); r.Replayed {
		t.Error("the answer of before the restore")
	}
	m.ok(report("n1", 1, 2, disconnected("default", "p", 1))) // batches go on
	if p, _ := m.state.Proxy("default", "p"); len(p.Streams) != 0 {
		t.Errorf("its stream has ended: %v", p)
	}
	m.snapshotHolds()
}

// A new cluster goes on from another one's backup.
func TestSeed(t *testing.T) {
	old := populated(t)
	old.ok(report("n1", 1, 31, connected("default", "moves", 1, "edge")))
	m := &machine{t: t, state: fsm.New(), now: old.now}
	sum := m.take(old)
	m.refused(fsm.CodeInvalid, restore(sum, "e")) // has no identity
	seeded := cluster("c2", "f1")
	seeded.GetInitCluster().SeedSha256 = []byte("other")
	m.refused(fsm.CodeInvalid, seeded)
	seeded.GetInitCluster().SeedSha256 = sum
	m.ok(seeded)
	if kinds(m.events) != "cluster_initialized;state_restored;" {
		t.Errorf("events %s", kinds(m.events))
	}
	if names(m.state) != names(old.state) {
		t.Errorf("there is %q, not %q", names(m.state), names(old.state))
	}
	id, from := m.state.Identity(), old.state.Identity()
	if id.ClusterId != "c2" || id.Epoch != "f1" || id.ParentClusterId != from.ClusterId || id.ParentEpoch != from.Epoch || id.ParentSeq != old.state.Seq() {
		t.Errorf("identity %v", id)
	}
	if m.state.Seq() != old.state.Seq()+2 {
		t.Errorf("sequence %d after %d", m.state.Seq(), old.state.Seq())
	}
	for p := range m.state.AllProxies() {
		if len(p.Streams) > 0 {
			t.Errorf("%s has streams to nodes of another cluster", p.Id)
		}
	}
	if p, ok := old.state.Proxy("default", "moves"); !ok || len(p.Streams) != 1 {
		t.Errorf("the backup has changed: %v", p)
	}
	m.snapshotHolds()
	m.ok(report("n1", 0, 1, connected("default", "moves", 1, "edge"))) // an n1 of this cluster
}

// reread returns a state by way of its snapshot.
func (m *machine) reread(st *fsm.State) *fsm.State {
	m.t.Helper()
	read, err := fsm.ReadSnapshot(bytes.NewReader(snapshot(m.t, st)))
	if err != nil {
		m.t.Fatal(err)
	}
	return read
}

// snapshotHolds wants a snapshot to give the same state.
func (m *machine) snapshotHolds() {
	m.t.Helper()
	read := m.reread(m.state)
	if !bytes.Equal(snapshot(m.t, read), snapshot(m.t, m.state)) || read.OutboxBytes() != m.state.OutboxBytes() {
		m.t.Error("the state that was read is another one")
	}
}
