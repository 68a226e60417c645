package fsm_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func archive(s *fsmpb.ArchiveSettings) *fsmpb.Command {
	return &fsmpb.Command{Op: &fsmpb.Command_ConfigureArchive{ConfigureArchive: &fsmpb.ConfigureArchive{Settings: s}}}
}

func ack(epoch string, through uint64) *fsmpb.Command {
	return &fsmpb.Command{Op: &fsmpb.Command_AckArchived{AckArchived: &fsmpb.AckArchived{Epoch: epoch, ThroughSeq: through}}}
}

// seqs returns the retained sequences and fails on a hole.
func seqs(t *testing.T, s *fsm.State) (from, to uint64) {
	t.Helper()
	from, to = s.FirstSeq(), s.FirstSeq()-1
	for ev := range s.Events(0) {
		if ev.Seq != to+1 {
			t.Fatalf("event %d after %d", ev.Seq, to)
		}
		to = ev.Seq
	}
	if to != s.Seq() {
		t.Fatalf("the last event is %d, not %d", to, s.Seq())
	}
	return from, to
}

func TestEventsAreNumbered(t *testing.T) {
	m := newMachine(t)
	m.ok(putTenant("acme"))
	m.ok(putFleet("acme", "a"))
	m.ok(putFleet("default", "b"))
	m.ok(putFleet("acme", "c"))
	var got strings.Builder
	for ev := range m.state.Events(1) {
		fmt.Fprintf(&got, "%d %s %d;", ev.Seq, ev.Tenant, ev.TenantSeq)
		if ev.At == 0 || ev.Index == 0 {
			t.Errorf("event %v", ev)
		}
	}
	if got.String() != "2 acme 1;3 acme 2;4 default 1;5 acme 3;" {
		t.Fatalf("got %s", got.String())
	}
	if m.state.Seq() != 5 || m.state.TenantSeq("acme") != 3 {
		t.Fatalf("seq %d", m.state.Seq())
	}
}

// Many commands of many tenants in one entry number their events as if each had
// an entry of its own; a refused one takes no number.
func TestEventsOfOneEntryAreNumbered(t *testing.T) {
	one, many := newMachine(t), newMachine(t)
	entry := &fsmpb.Entry{Stamp: 1}
	for i := range 200 {
		tenant := fmt.Sprint("t", i%70)
		for _, c := range []*fsmpb.Command{putTenant(tenant), putFleet(tenant, fmt.Sprint("f", i)), putFleet("nobody", "x")} {
			one.do(c)
			entry.Commands = append(entry.Commands, c)
		}
	}
	many.state, _, _ = many.state.Apply(many.state.Index()+1, entry)
	if from, to := seqs(t, many.state); from != 1 || to != one.state.Seq() {
		t.Fatalf("events %d to %d, want them to %d", from, to, one.state.Seq())
	}
	for ev := range one.state.Events(0) {
		for other := range many.state.Events(ev.Seq - 1) {
			if other.Tenant != ev.Tenant || other.TenantSeq != ev.TenantSeq {
				t.Fatalf("event %d of %s is %d, want %d of %s", ev.Seq, other.Tenant, other.TenantSeq, ev.TenantSeq, ev.Tenant)
			}
			break
		}
	}
	if got, want := many.state.TenantSeq("t69"), one.state.TenantSeq("t69"); got != want {
		t.Errorf("tenant seq %d, want %d", got, want)
	}
}

func TestWithoutArchiveHistoryIsBounded(t *testing.T) {
	m := newMachine(t)
	if m.state.Archive().Enabled || m.state.OutboxBytes() != 0 {
		t.Fatal("an archive from nowhere")
	}
	for i := range 10_050 {
		m.ok(putEndpoints("web", fmt.Sprint(i)))
	}
	from, to := seqs(t, m.state)
	if n := to - from + 1; n != 10_000 {
		t.Fatalf("%d events", n)
	}
	if r := m.ok(ack("e1", 3)); !r.Unchanged {
		t.Fatalf("got %v", r)
	}
	body := strings.Repeat("x", 9<<20)
	for i := range 4 {
		m.ok(putEndpoints("big", fmt.Sprint(i)+body))
	}
	if from, to := seqs(t, m.state); to-from+1 != 3 {
		t.Fatalf("events %d to %d", from, to)
	}
}

func TestArchiveAcknowledges(t *testing.T) {
	m := newMachine(t)
	m.refused(fsm.CodeInvalid, archive(nil))
	m.ok(archive(&fsmpb.ArchiveSettings{Enabled: true}))
	if r := m.ok(archive(&fsmpb.ArchiveSettings{Enabled: true})); !r.Unchanged {
		t.Fatalf("got %v", r)
	}
	if s := m.state.Archive(); s.MaxOutboxBytes != 256<<20 || s.ReplayWindowMs != 15*60*1000 {
		t.Fatalf("settings %v", s)
	}
	m.ok(putFleet("default", "a"))
	m.ok(report("n1", 1, 1, connected("default", "p", 1, "a")))
	var size int
	for ev := range m.state.Events(0) {
		size += fsm.EventSize(ev)
	}
	if got := m.state.OutboxBytes(); got != uint64(size) {
		t.Fatalf("%d bytes, want %d: the events before the archive count too", got, size)
	}
	m.refused(fsm.CodeEpochChanged, ack("e0", 1))
	m.refused(fsm.CodeInvalid, ack("e1", m.state.Seq()+1))
	m.ok(ack("e1", m.state.Seq()))
	if m.state.OutboxBytes() != 0 || m.state.ArchivedSeq() != m.state.Seq() {
		t.Fatalf("%d bytes", m.state.OutboxBytes())
	}
	if r := m.ok(ack("e1", 1)); !r.Unchanged {
		t.Fatalf("got %v", r)
	}
	// Kept for the replay window, then gone.
	if from, _ := seqs(t, m.state); from != 1 {
		t.Fatalf("from %d", from)
	}
	m.now += 16 * 60 * 1e9
	m.ok(putFleet("default", "b"))
	if from, to := seqs(t, m.state); from != to {
		t.Fatalf("events %d to %d", from, to)
	}
	m.ok(archive(&fsmpb.ArchiveSettings{}))
	if m.state.OutboxBytes() != 0 {
		t.Fatal("bytes wait for no archive")
	}
}

func TestFullOutboxBlocksConfigurationOnly(t *testing.T) {
	m := newMachine(t)
	m.ok(archive(&fsmpb.ArchiveSettings{Enabled: true, MaxOutboxBytes: 4000}))
	m.ok(putFleet("default", "a"))
	m.ok(putTenant("acme"))
	m.ok(change("a", resource(fsm.TypeCluster, "c", "1")))
	m.ok(report("n1", 1, 1, connected("default", "q", 9, "a")))
	m.ok(report("n1", 1, 2, disconnected("default", "q", 9)))
	for i := 0; m.state.OutboxBytes() < 4000; i++ {
		m.ok(putEndpoints("web", fmt.Sprint(i)))
	}
	for _, c := range []*fsmpb.Command{
		putTenant("x"), deleteTenant("acme"), putFleet("default", "b"), deleteFleet("default", "a", true),
		change("a", resource(fsm.TypeCluster, "c", "2")), rollback("a", 1), putEndpoints("web", "x"),
		deleteEndpoints("web"), deleteProxy("q"),
	} {
		m.refused(fsm.CodeOutboxFull, keyed(c, "k", "r"))
	}
	m.ok(readOnly(true, "also then"))
	m.ok(readOnly(false, ""))
	m.ok(report("n1", 1, 3, connected("default", "p", 1, "a")))
	if kinds(m.events) != "proxy_connected;" {
		t.Fatalf("events %s", kinds(m.events))
	}
	m.ok(ack("e1", m.state.Seq()))
	// The refusal was not an answer for good.
	m.ok(keyed(putFleet("default", "b"), "k", "r"))
}

func TestProxyTransitionsCollapse(t *testing.T) {
	m := newMachine(t)
	m.ok(archive(&fsmpb.ArchiveSettings{Enabled: true, MaxOutboxBytes: 4000}))
	m.ok(putFleet("default", "a"))
	for i := range uint64(200) {
		m.ok(report("n1", 1, 2*i+1, connected("default", "p", i, "a")))
		m.ok(report("n1", 1, 2*i+2, disconnected("default", "p", i)))
	}
	if got := m.state.OutboxBytes(); got > 2600 {
		t.Fatalf("proxies took %d of 4000 bytes", got)
	}
	m.ok(report("n1", 1, 1000, connected("default", "q", 900, "a"), rejected("q", 900, fsm.TypeCluster, "bad")))
	m.ok(putFleet("default", "b")) // operators are not locked out
	restored, err := fsm.ReadSnapshot(strings.NewReader(string(snapshot(t, m.state))))
	if err != nil {
		t.Fatal(err)
	}
	m.state = restored
	m.ok(ack("e1", m.state.Seq()))
	if kinds(m.events) != "proxy_collapsed;proxy_collapsed;" {
		t.Fatalf("events %s", kinds(m.events))
	}
	p, q := m.events[0].GetProxyCollapsed(), m.events[1].GetProxyCollapsed()
	if p.Proxy != "p" || p.Connected || q.Proxy != "q" || !q.Connected || len(q.Rejections) != 1 {
		t.Fatalf("events %v", m.events)
	}
	seqs(t, m.state)
}

func TestOverflowCanLeaveAGap(t *testing.T) {
	m := newMachine(t)
	m.ok(archive(&fsmpb.ArchiveSettings{Enabled: true, MaxOutboxBytes: 4000, Overflow: fsmpb.ArchiveSettings_GAP}))
	// Archived events within the replay window do not keep the bound from
	// being held.
	m.ok(putFleet("default", "a"))
	m.ok(ack("e1", m.state.Seq()))
	for i := range 200 {
		m.ok(putEndpoints("web", fmt.Sprint(i)))
	}
	if from, _ := seqs(t, m.state); from == 1 || m.state.OutboxBytes() > 4000 {
		t.Fatalf("from %d, %d bytes", from, m.state.OutboxBytes())
	}
	m.ok(ack("e1", m.state.Seq()))
	if m.state.OutboxBytes() != 0 {
		t.Fatalf("%d bytes", m.state.OutboxBytes())
	}
}
