package fsm_test

import (
	"encoding/json"
	"testing"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func report(node string, start int64, batch uint64, reports ...*fsmpb.ProxyReport) *fsmpb.Command {
	return &fsmpb.Command{By: "xds", Op: &fsmpb.Command_ReportProxies{ReportProxies: &fsmpb.ReportProxies{
		Node: node, NodeStart: start, Batch: batch, Reports: reports,
	}}}
}

func connected(tenant, id string, stream uint64, fleet string) *fsmpb.ProxyReport {
	return &fsmpb.ProxyReport{Tenant: tenant, Id: id, Stream: stream, Report: &fsmpb.ProxyReport_Connected_{
		Connected: &fsmpb.ProxyReport_Connected{Fleet: fleet, Peer: "10.0.0.1:5", Protocol: "delta", Build: "1.40"},
	}}
}

func disconnected(tenant, id string, stream uint64) *fsmpb.ProxyReport {
	return &fsmpb.ProxyReport{Tenant: tenant, Id: id, Stream: stream, Report: &fsmpb.ProxyReport_Disconnected_{
		Disconnected: &fsmpb.ProxyReport_Disconnected{Reason: "gone"},
	}}
}

func rejected(id string, stream uint64, url, detail string) *fsmpb.ProxyReport {
	return &fsmpb.ProxyReport{Tenant: "default", Id: id, Stream: stream, Report: &fsmpb.ProxyReport_Rejected_{
		Rejected: &fsmpb.ProxyReport_Rejected{TypeUrl: url, Detail: detail, Version: "v", Revision: 3, Resources: []string{"l"}},
	}}
}

func recovered(id, url string) *fsmpb.ProxyReport {
	return &fsmpb.ProxyReport{Tenant: "default", Id: id, Report: &fsmpb.ProxyReport_Recovered_{
		Recovered: &fsmpb.ProxyReport_Recovered{TypeUrl: url, Revision: 4},
	}}
}

func dropNode(node string, through int64) *fsmpb.Command {
	return &fsmpb.Command{Op: &fsmpb.Command_DropNode{DropNode: &fsmpb.DropNode{Node: node, ThroughStart: through}}}
}

func deleteProxy(id string) *fsmpb.Command {
	return &fsmpb.Command{Op: &fsmpb.Command_DeleteProxy{DeleteProxy: &fsmpb.DeleteProxy{Tenant: "default", Id: id}}}
}

func kinds(events []*fsmpb.Event) string {
	out := ""
	for _, ev := range events {
		out += fsm.EventKind(ev) + ";"
	}
	return out
}

func TestProxyLife(t *testing.T) {
	m := newMachine(t)
	m.ok(report("n1", 1, 1, connected("default", "p", 1, "edge")))
	m.ok(report("n2", 1, 1, connected("default", "p", 1, "edge"), disconnected("default", "unknown", 9)))
	p, ok := m.state.Proxy("default", "p")
	if !ok || len(p.Streams) != 2 || p.Fleet != "edge" || p.Build != "1.40" || p.Streams[0].Node != "n1" {
		t.Fatalf("proxy %v", p)
	}
	m.refused(fsm.CodeProxyConnected, deleteProxy("p"))
	m.ok(report("n1", 1, 2, disconnected("default", "p", 1), disconnected("default", "p", 1)))
	if kinds(m.events) != "proxy_disconnected;" {
		t.Fatalf("events %s", kinds(m.events))
	}
	m.ok(report("n2", 1, 2, disconnected("default", "p", 1)))
	if p, _ := m.state.Proxy("default", "p"); len(p.Streams) != 0 {
		t.Fatalf("proxy %v", p)
	}
	m.ok(deleteProxy("p"))
	m.refused(fsm.CodeProxyNotFound, deleteProxy("p"))
	stray := deleteProxy("p")
	stray.GetDeleteProxy().Tenant = "none"
	m.refused(fsm.CodeTenantNotFound, stray)
	m.refused(fsm.CodeInvalid, report("", 1, 1))
	m.ok(report("n1", 1, 3, connected("default", "", 5, "edge"))) // no id: ignored
	for p := range m.state.AllProxies() {
		t.Fatalf("proxy %v", p)
	}
}

func TestReportsAreTakenOnceAndInOrder(t *testing.T) {
	m := newMachine(t)
	m.ok(report("n1", 5, 2, connected("default", "p", 1, "edge")))
	for _, c := range []*fsmpb.Command{
		report("n1", 5, 2, disconnected("default", "p", 1)), // again
		report("n1", 5, 1, disconnected("default", "p", 1)), // late
		report("n1", 4, 9, connected("default", "p", 7, "old")),
	} {
		if r := m.ok(c); !r.Unchanged || len(m.events) != 0 {
			t.Fatalf("%v: got %v", c, r)
		}
	}
	// A newer start of the node ends the streams of the one before.
	m.ok(report("n1", 6, 1, connected("default", "q", 1, "edge")))
	if kinds(m.events) != "proxy_disconnected;proxy_connected;" {
		t.Fatalf("events %s", kinds(m.events))
	}
	if n, _ := m.state.NodeStart("n1"); n.Start != 6 || n.Batch != 1 {
		t.Fatalf("node %v", n)
	}
}

func TestDropNode(t *testing.T) {
	m := newMachine(t)
	m.ok(report("n1", 5, 1, connected("default", "p", 1, "edge"), connected("default", "q", 2, "edge")))
	m.ok(report("n2", 5, 1, connected("default", "q", 1, "edge")))
	if r := m.ok(dropNode("n1", 4)); !r.Unchanged {
		t.Fatalf("got %v", r)
	}
	m.ok(dropNode("n1", 5))
	if kinds(m.events) != "proxy_disconnected;proxy_disconnected;" {
		t.Fatalf("events %s", kinds(m.events))
	}
	if q, _ := m.state.Proxy("default", "q"); len(q.Streams) != 1 || q.Streams[0].Node != "n2" {
		t.Fatalf("proxy %v", q)
	}
}

func TestRejections(t *testing.T) {
	m := newMachine(t)
	m.ok(report("n1", 1, 1, rejected("unknown", 1, fsm.TypeListener, "bad"), recovered("unknown", fsm.TypeListener)))
	if len(m.events) != 0 {
		t.Fatalf("events %s", kinds(m.events))
	}
	m.ok(report("n1", 1, 2, connected("default", "p", 1, "edge"),
		rejected("p", 1, fsm.TypeListener, "bad"), rejected("p", 1, fsm.TypeCluster, "bad"), rejected("p", 1, fsm.TypeListener, "worse")))
	p, _ := m.state.Proxy("default", "p")
	if len(p.Rejections) != 2 || p.Rejections[1].Detail != "worse" || p.Rejections[1].Stream.Node != "n1" {
		t.Fatalf("rejections %v", p.Rejections)
	}
	m.ok(report("n1", 1, 3, recovered("p", fsm.TypeCluster), recovered("p", fsm.TypeCluster)))
	if kinds(m.events) != "proxy_recovered;" {
		t.Fatalf("events %s", kinds(m.events))
	}
	// The last stream gone, the rejection is still shown; a new one is a
	// fresh attempt.
	m.ok(report("n1", 1, 4, disconnected("default", "p", 1)))
	if p, _ := m.state.Proxy("default", "p"); len(p.Rejections) != 1 {
		t.Fatalf("rejections %v", p.Rejections)
	}
	m.ok(report("n1", 1, 5, connected("default", "p", 2, "edge"), connected("default", "p", 2, "edge")))
	if p, _ := m.state.Proxy("default", "p"); len(p.Rejections) != 0 || len(p.Streams) != 1 {
		t.Fatalf("proxy %v", p)
	}
}

func TestEventData(t *testing.T) {
	m := newMachine(t)
	m.ok(putFleet("default", "edge"))
	m.ok(change("edge", resource(fsm.TypeCluster, "a", "1")))
	want := `{"changed":[{"name":"a","op":"added","type":"cluster","version":"` +
		fsm.Version(3, fsm.ResourceHash([]byte("1"), nil, 0)) + `"}],"message":"why","revision":1}`
	if got := data(t, m.events[0]); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	labelled := putTenant("acme")
	labelled.GetPutTenant().Labels = map[string]string{"a": "b"}
	m.ok(labelled)
	if got := data(t, m.events[0]); got != `{"created":true,"labels":{"a":"b"}}` {
		t.Errorf("got %s", got)
	}
	m.ok(report("n1", 1, 1, connected("default", "p", 1, "edge"), rejected("p", 1, fsm.TypeListener, "bad")))
	var got struct {
		Rejection struct{ At, Type string }
	}
	if err := json.Unmarshal([]byte(data(t, m.events[1])), &got); err != nil {
		t.Fatal(err)
	}
	if got.Rejection.Type != "listener" || got.Rejection.At[:10] != "2023-11-14" {
		t.Errorf("got %+v", got)
	}
	if got := data(t, &fsmpb.Event{}); got != "{}" || fsm.EventKind(&fsmpb.Event{}) != "" {
		t.Errorf("got %s", got)
	}
	odd := &fsmpb.Event{Data: &fsmpb.Event_RevisionCreated{RevisionCreated: &fsmpb.RevisionCreated{
		Changed: []*fsmpb.Change{{Op: 77}},
	}}}
	if got := data(t, odd); got != `{"changed":[{"op":77}]}` {
		t.Errorf("got %s", got)
	}
}

func data(t *testing.T, ev *fsmpb.Event) string {
	t.Helper()
	b, err := fsm.EventData(ev)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestForgetProxies(t *testing.T) {
	m := newMachine(t)
	for i, id := range []string{"a", "b", "c", "stays"} {
		m.ok(report("n1", 1, uint64(2*i+1), connected("default", id, uint64(i), "edge")))
		if id != "stays" {
			m.ok(report("n1", 1, uint64(2*i+2), disconnected("default", id, uint64(i))))
		}
	}
	b, _ := m.state.Proxy("default", "b")
	if r := m.ok(forget(0, 10)); !r.Unchanged || m.state.Forgettable(0) {
		t.Fatalf("got %v", r)
	}
	left := func() (ids string) {
		for p := range m.state.AllProxies() {
			ids += p.Id + " "
		}
		return ids
	}
	if m.ok(forget(b.ChangedAt, 10)); left() != "b c stays " {
		t.Fatalf("left are %s", left())
	}
	seq := m.state.Seq()
	if m.ok(forget(1<<62, 1)); left() != "c stays " || m.state.Seq() != seq+1 {
		t.Fatalf("left are %s, %d events", left(), m.state.Seq()-seq)
	}
	if !m.state.Forgettable(1 << 62) {
		t.Fatal("nothing to forget")
	}
	if m.ok(forget(1<<62, 10)); left() != "stays " || m.state.Forgettable(1<<62) {
		t.Fatalf("left are %s", left())
	}
}

// What a node says of convergence becomes an event from its level on, and makes
// way when the outbox has no room for crowds.
func TestConvergence(t *testing.T) {
	c := report("n1", 1, 1, connected("default", "p", 1, "edge"))
	c.GetReportProxies().Convergence = []*fsmpb.Convergence{
		{Tenant: "default", Fleet: "edge", Revision: 3, CommittedAt: 1, Synced: 1}, {Tenant: "none", Fleet: "edge", Revision: 3},
	}
	old := founded(t, fsm.LevelConvergence-1)
	old.ok(c)
	if kinds(old.events) != "proxy_connected;" {
		t.Fatalf("below its level: events %s", kinds(old.events))
	}
	m := newMachine(t)
	m.ok(c)
	if kinds(m.events) != "proxy_connected;convergence_recorded;" {
		t.Fatalf("events %s", kinds(m.events))
	}
	data, err := fsm.EventData(m.events[1])
	if err != nil || string(data) != `{"committed_at":"1970-01-01T00:00:00.000000001Z","fleet":"edge","node":"n1","revision":3,"synced":1,"tenant":"default"}` {
		t.Fatalf("%s, %v", data, err)
	}
	m.ok(archive(&fsmpb.ArchiveSettings{Enabled: true, MaxOutboxBytes: 1}))
	c.GetReportProxies().Batch, c.GetReportProxies().Reports = 2, nil
	if m.ok(c); len(m.events) != 0 {
		t.Fatalf("a full outbox takes %s", kinds(m.events))
	}
}
