package xds

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func (f *fixture) streamsOf(id string) int { return len(f.proxy(id).GetStreams()) }

func (f *fixture) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func TestProxiesRegisterByConnecting(t *testing.T) {
	f := newFixture(t)
	n := node("p1", "web", "")
	n.UserAgentName = "envoy"
	n.UserAgentVersionType = &corev3.Node_UserAgentBuildVersion{UserAgentBuildVersion: &corev3.BuildVersion{
		Version: &typev3.SemanticVersion{MajorNumber: 1, MinorNumber: 40, Patch: 2},
	}}
	n.Locality = &corev3.Locality{Region: "eu", Zone: "eu-1", SubZone: "a"}
	n.Metadata = &structpb.Struct{Fields: map[string]*structpb.Value{
		"labels": structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{"canary": structpb.NewStringValue("yes")}}),
	}}
	c := f.connectAs(adsDelta, n)
	c.ask(fsm.TypeCluster)
	eventually(t, "registered", func() bool { return f.streamsOf("p1") == 1 })
	p := f.proxy("p1")
	if p.Fleet != "web" || p.Build != "envoy/1.40.2" || p.Locality.GetZone() != "eu-1" || p.Labels["canary"] != "yes" {
		t.Fatalf("proxy %v", p)
	}
	if s := p.Streams[0]; s.Node != "node-1" || s.NodeStart != nodeStart || s.Number == 0 || s.Protocol != "delta" || s.Peer == "" {
		t.Fatalf("stream %v", s)
	}
	d := f.connect(adsState)
	d.ask(fsm.TypeCluster)
	eventually(t, "second stream", func() bool { return f.streamsOf("p1") == 2 })
	c.close()
	eventually(t, "first stream gone", func() bool { return f.streamsOf("p1") == 1 })
	check(t, d.stream.CloseSend())
	check2(t, d.end())
	eventually(t, "disconnected", func() bool { return f.streamsOf("p1") == 0 })
}

// check2 wants the end of a stream that ended well.
func check2(t *testing.T, err error) {
	t.Helper()
	if err.Error() != "EOF" {
		t.Fatalf("stream ended with %v", err)
	}
}

// Reports wait for a cluster that takes no commands; a batch whose outcome is
// unknown counts once.
func TestReportsOutliveAnOutage(t *testing.T) {
	f := newFixture(t)
	f.set(func() { f.down = true })
	c := f.connect(adsDelta)
	c.ask(fsm.TypeCluster)
	f.replace(cluster(t, "a", 1))
	r := c.want("cluster a") // xDS goes on
	c.nack(r, "no")
	time.Sleep(50 * time.Millisecond)
	if p := f.proxy("p1"); p != nil {
		t.Fatalf("registered without a leader: %v", p)
	}
	f.set(func() { f.down, f.unknown = false, 3 })
	eventually(t, "registered and rejected", func() bool {
		return f.streamsOf("p1") == 1 && len(f.proxy("p1").Rejections) == 1
	})
	eventually(t, "settled", func() bool { return f.server.reporter.idle() })
	connects := 0
	for e := range f.current().Events(0) {
		if e.GetProxyConnected() != nil {
			connects++
		}
	}
	if connects != 1 {
		t.Fatalf("%d connects, want 1", connects)
	}
}

func TestANodesPastIsDropped(t *testing.T) {
	f := newFixture(t)
	check := func(node string, start int64, batch uint64) {
		f.do(&fsmpb.Command{Op: &fsmpb.Command_ReportProxies{ReportProxies: &fsmpb.ReportProxies{
			Node: node, NodeStart: start, Batch: batch, Reports: []*fsmpb.ProxyReport{{
				Tenant: "default", Id: "old", Stream: 7,
				Report: &fsmpb.ProxyReport_Connected_{Connected: &fsmpb.ProxyReport_Connected{Fleet: "web"}},
			}},
		}}})
	}
	eventually(t, "the first drop", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.proposals > 0 })
	check("node-1", nodeStart-1, 1)
	check("node-2", nodeStart-1, 1)
	if f.streamsOf("old") != 2 {
		t.Fatal("no streams to drop")
	}
	next := New(Config{NodeID: "node-1", NodeStart: nodeStart}, Deps{Cluster: f})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- next.Run(ctx) }()
	eventually(t, "dropped", func() bool { return f.streamsOf("old") == 1 })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// A node that was taken for dead says again who is connected.
func TestLostStreamsRegisterAgain(t *testing.T) {
	f := newFixture(t)
	c := f.connect(adsDelta)
	c.ask(fsm.TypeCluster)
	eventually(t, "registered", func() bool { return f.streamsOf("p1") == 1 })
	f.do(&fsmpb.Command{Op: &fsmpb.Command_DropNode{DropNode: &fsmpb.DropNode{Node: "node-1", ThroughStart: nodeStart}}})
	eventually(t, "registered again", func() bool { return f.streamsOf("p1") == 1 })

	// Also when the drop came within a snapshot.
	f.set(func() { f.apply = false })
	f.do(&fsmpb.Command{Op: &fsmpb.Command_DropNode{DropNode: &fsmpb.DropNode{Node: "node-1", ThroughStart: nodeStart}}})
	if f.streamsOf("p1") != 0 {
		t.Fatal("not dropped")
	}
	f.set(func() { f.apply = true })
	f.server.Applied(f.current(), nil)
	eventually(t, "registered again", func() bool { return f.streamsOf("p1") == 1 })
}

// idleReporter is a reporter that nobody runs.
func idleReporter() *reporter {
	return newReporter(Config{NodeID: "n"}.withDefaults(), Deps{Cluster: refuser{}}, newMetrics(nil))
}

type refuser struct{}

func (refuser) Propose(context.Context, *fsmpb.Command) (*fsmpb.Result, error) {
	return nil, fsm.Refusal(fsm.CodeNoLeader, "never")
}

var streamNumbers atomic.Uint64

func bareStream(r *reporter, id string) *stream {
	s := &Server{reporter: r}
	return &stream{server: s, number: streamNumbers.Add(1), id: Identity{"default", "web", id}}
}

func TestBacklogOfReportsIsBounded(t *testing.T) {
	r := idleReporter()
	k := &kind{url: fsm.TypeCluster}
	keep := bareStream(r, "keeper")
	r.connected(keep, &hello{})
	for range 20_000 {
		st := bareStream(r, "flapper")
		r.connected(st, &hello{})
		r.recovered(st, k, 1)
		r.recovered(keep, k, 2)
		r.disconnected(st, "gone")
	}
	live := 0
	for _, e := range r.queue {
		if !e.dropped {
			live++
		}
	}
	if live > 2*collapseAbove || len(r.queue) > 4*collapseAbove {
		t.Fatalf("%d reports (%d entries) wait for 1 live stream", live, len(r.queue))
	}
	// Every stream still has its reports in order, and none is lost.
	var all []*fsmpb.ProxyReport
	for batch := r.take(); batch != nil; batch = r.take() {
		if len(batch) > maxBatchReports {
			t.Fatalf("batch of %d", len(batch))
		}
		all = append(all, batch...)
	}
	open := map[uint64]bool{}
	for _, p := range all {
		switch {
		case p.GetConnected() != nil:
			open[p.Stream] = true
		case !open[p.Stream]:
			t.Fatalf("report of a stream that is not open: %v", p)
		case p.GetDisconnected() != nil:
			delete(open, p.Stream)
		}
	}
	if len(open) != 1 || !open[keep.number] {
		t.Fatalf("open after all: %v", open)
	}
	if last := all[len(all)-1]; !slices.ContainsFunc(all, func(p *fsmpb.ProxyReport) bool {
		return p.Stream == keep.number && p.GetRecovered().GetRevision() == 2
	}) {
		t.Fatalf("the keeper's recovery is lost; last %v", last)
	}
}

func TestBatchesAreBoundedInBytes(t *testing.T) {
	r := idleReporter()
	text := string(make([]byte, maxRejectText))
	for i := range 200 {
		st := bareStream(r, sprintf("p%d", i))
		r.rejected(st, &kind{url: fsm.TypeCluster}, &frame{to: newContent(&kind{}, nil, true)}, 1, text)
	}
	total := 0
	for batch := r.take(); batch != nil; batch = r.take() {
		size := proto.Size(r.command(batch, nil))
		if size > maxBatchBytes+maxBatchBytes/10 {
			t.Fatalf("batch of %d bytes", size)
		}
		total += len(batch)
	}
	if total != 200 {
		t.Fatalf("%d reports, want 200", total)
	}
}
