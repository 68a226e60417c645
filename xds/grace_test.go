package xds

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func graceful(c *Config) { c.ProxyGrace = time.Hour }

// happened lists what the proxies of the default tenant went through.
func (f *fixture) happened() []string {
	var out []string
	for ev := range f.current().Events(0) {
		switch d := ev.Data.(type) {
		case *fsmpb.Event_ProxyConnected:
			out = append(out, fmt.Sprintf("%s on %s", d.ProxyConnected.Proxy, d.ProxyConnected.Stream.Node))
		case *fsmpb.Event_ProxyDisconnected:
			out = append(out, fmt.Sprintf("%s off, %d left", d.ProxyDisconnected.Proxy, d.ProxyDisconnected.StreamsLeft))
		}
	}
	return out
}

func (f *fixture) wantHappened(want ...string) {
	f.t.Helper()
	eventually(f.t, fmt.Sprint(want), func() bool { return slices.Equal(f.happened(), want) })
}

func (f *fixture) holds() bool { return f.server.reporter.holds() }

func TestAReturningProxyIsNeverDisconnected(t *testing.T) {
	f := newFixture(t, graceful)
	c := f.connect(adsDelta)
	c.ask(fsm.TypeCluster)
	f.wantHappened("p1 on node-1")
	c.close()
	eventually(t, "the end waits", f.holds)
	again := f.connect(adsDelta)
	again.ask(fsm.TypeCluster)
	f.wantHappened("p1 on node-1", "p1 on node-1", "p1 off, 1 left")
	// The end of one of several streams is nothing to wait with.
	third := f.connect(adsDelta)
	third.ask(fsm.TypeCluster)
	f.wantHappened("p1 on node-1", "p1 on node-1", "p1 off, 1 left", "p1 on node-1")
	third.close()
	f.wantHappened("p1 on node-1", "p1 on node-1", "p1 off, 1 left", "p1 on node-1", "p1 off, 1 left")
}

func TestAProxyThatMovesIsNeverDisconnected(t *testing.T) {
	f := newFixture(t, graceful)
	c := f.connect(adsDelta)
	c.ask(fsm.TypeCluster)
	f.wantHappened("p1 on node-1")
	c.close()
	eventually(t, "the end waits", f.holds)
	f.do(&fsmpb.Command{Op: &fsmpb.Command_ReportProxies{ReportProxies: &fsmpb.ReportProxies{
		Node: "node-2", NodeStart: 1, Batch: 1, Reports: []*fsmpb.ProxyReport{{
			Tenant: "default", Id: "p1", Stream: 1,
			Report: &fsmpb.ProxyReport_Connected_{Connected: &fsmpb.ProxyReport_Connected{Fleet: "web"}},
		}},
	}}})
	f.wantHappened("p1 on node-1", "p1 on node-2", "p1 off, 1 left")
	// It is there already when a stream here ends.
	back := f.connect(adsDelta)
	back.ask(fsm.TypeCluster)
	f.wantHappened("p1 on node-1", "p1 on node-2", "p1 off, 1 left", "p1 on node-1")
	back.close()
	f.wantHappened("p1 on node-1", "p1 on node-2", "p1 off, 1 left", "p1 on node-1", "p1 off, 1 left")
}

func TestAProxyThatStaysAwayIsDisconnected(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.ProxyGrace = 50 * time.Millisecond })
	c := f.connect(adsDelta)
	c.ask(fsm.TypeCluster)
	f.wantHappened("p1 on node-1")
	began := time.Now()
	c.close()
	f.wantHappened("p1 on node-1", "p1 off, 0 left")
	if after := time.Since(began); after < 50*time.Millisecond {
		t.Errorf("disconnected after %s", after)
	}
	if f.holds() {
		t.Error("something is still held")
	}
}

// TestADrainReportsWhatWaits: a node that goes leaves no stream behind.
func TestADrainReportsWhatWaits(t *testing.T) {
	f := newFixture(t, graceful)
	c := f.connect(adsDelta)
	c.ask(fsm.TypeCluster)
	f.wantHappened("p1 on node-1")
	began := time.Now()
	f.server.Drain(t.Context())
	if f.holds() || time.Since(began) > 30*time.Second {
		t.Errorf("drained after %s, held %v", time.Since(began), f.holds())
	}
	f.wantHappened("p1 on node-1", "p1 off, 0 left")
}
