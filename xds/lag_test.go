package xds

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func TestLaggingStreamsAreCounted(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.GateTimeout = 20 * time.Millisecond })
	f.replace(cluster(t, "a", 1))
	slow, quick := f.connect(adsDelta), f.connectAs(adsState, node("p2", "web", ""))
	slow.ask(fsm.TypeCluster)
	quick.ask(fsm.TypeCluster)
	r := slow.want("cluster a")
	quick.accept("cluster a")
	eventually(t, "one lags", func() bool { return f.metric("ecp_xds_lagging_streams") == 1 })
	slow.ack(r)
	eventually(t, "none lags", func() bool { return f.metric("ecp_xds_lagging_streams") == 0 })
}

// TestLaggingStreamsAreBounded: streams that never answer keep what they were
// sent, however often their fleet changes after that.
func TestLaggingStreamsAreBounded(t *testing.T) {
	f := newFixture(t)
	big := func(n int) *fsmpb.Resource {
		r := cluster(t, "a", n)
		r.Body = appendString(r.Body, 15_000, strings.Repeat("x", 64<<10)) // a field that nobody knows
		r.Hash = fsm.ResourceHash(r.Body, nil, int64(n))
		return r
	}
	f.replace(big(1))
	for range 10 {
		c := f.connect(adsDelta)
		c.ask(fsm.TypeCluster)
		c.next()
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for n := range 700 { // beyond the revisions and events that the state keeps
		f.replace(big(n + 2))
	}
	before := heap()
	for n := range 400 {
		f.replace(big(n + 1000))
	}
	if after := heap(); after > before+8<<20 {
		t.Errorf("%d bytes before, %d after", before, after)
	}
}
