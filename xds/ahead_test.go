package xds

import (
	"testing"
	"time"

	"github.com/org/envoy-control-plane/fsm"
)

// What a proxy has from a node that is ahead is not replaced by what is older:
// its stream waits until this node is as far.
func TestProxyThatIsAhead(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1))
	old := f.current()
	f.replace(cluster(t, "a", 2))
	check(t, f.server.Seen(t.Context(), f.current().Index()))
	first := f.connect(adsDelta)
	first.ask(fsm.TypeCluster)
	have := first.accept("cluster a").versions

	behind := newFixture(t)
	behind.become(old, false) // its log gets no entries of its own
	c := behind.connect(adsDelta)
	c.resume(fsm.TypeCluster, have)
	c.quiet()
	behind.become(f.current(), false)
	c.quiet()
}

// A cluster that never reaches the versions of a proxy makes it wait, but only
// the first one.
func TestProxyThatIsAheadForEver(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1))
	have := map[string]string{"a": fsm.Version(1_000_000, []byte("another cluster's"))}
	for i, atMost := range []time.Duration{5 * time.Second, aheadWait / 2} {
		began := time.Now()
		c := f.connect(adsDelta)
		c.resume(fsm.TypeCluster, have)
		c.accept("cluster a")
		if took := time.Since(began); took > atMost || i == 0 && took < aheadWait {
			t.Errorf("stream %d waited for %s", i, took)
		}
	}
}
