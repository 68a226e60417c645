package xds

import (
	"testing"
	"time"

	"github.com/org/envoy-control-plane/fsm"
)

// resumeAll comes back with what c had accepted, asking in the given order.
func (f *fixture) resumeAll(c *client, have map[string]map[string]string, names map[string][]string, order ...string) *client {
	f.t.Helper()
	method := adsState
	if c.delta {
		method = adsDelta
	}
	next := f.connect(method)
	next.version = c.version
	for _, url := range order {
		if next.delta {
			next.resume(url, have[url], names[url]...)
		} else {
			next.ask(url, names[url]...)
		}
	}
	return next
}

// A proxy whose stream is cut during a change loses no cluster that its routes
// still need, whichever protocol it speaks and whatever it asks for first.
func TestACutStreamDoesNotBreakTheOrder(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		f.replace(cluster(t, "a", 1), listener(t, "l", 80), route(t, "r", "a"))
		c := f.connect(method)
		have := map[string]map[string]string{}
		names := map[string][]string{fsm.TypeRoute: {"r"}}
		for _, url := range []string{fsm.TypeCluster, fsm.TypeListener, fsm.TypeRoute} {
			c.ask(url, names[url]...)
			r := c.next()
			c.ack(r)
			have[url] = r.versions
		}
		c.close()
		eventually(t, "stream ended", func() bool { return f.server.Streams() == 0 })
		f.replace(cluster(t, "b", 1), listener(t, "l", 80), route(t, "r", "b"))

		c = f.resumeAll(c, have, names, fsm.TypeRoute, fsm.TypeListener)
		c.quiet() // the routes wait: the clusters may yet be asked for
		if c.delta {
			c.resume(fsm.TypeCluster, have[fsm.TypeCluster])
		} else {
			c.ask(fsm.TypeCluster)
		}
		c.accept(c.pick("cluster a b", "cluster b"))
		c.accept("route r")
		c.accept(c.pick("cluster b", "cluster -a"))
		c.quiet()
	})
}

// What goes waits also while the proxy has not asked for its routes, but not
// for ever.
func TestRemovalsWaitForAProxyThatReturns(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		const grace = 150 * time.Millisecond
		f := newFixture(t, func(c *Config) { c.WarmingGrace = grace })
		f.replace(cluster(t, "a", 1), cluster(t, "b", 1))
		c := f.connect(method)
		c.ask(fsm.TypeCluster)
		have := map[string]map[string]string{fsm.TypeCluster: c.accept("cluster a b").versions}
		c.close()
		f.replace(cluster(t, "b", 1))
		began := time.Now()
		c = f.resumeAll(c, have, nil, fsm.TypeCluster)
		if !c.delta {
			c.accept("cluster a b")
		}
		c.accept(c.pick("cluster b", "cluster -a"))
		if d := time.Since(began); d < grace/2 {
			t.Fatalf("removed after %v", d)
		}
	})
}

// A version that nobody knows is taken for that of the revision before.
func TestUnknownVersionKeepsTheLastClusters(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1), listener(t, "l", 80), route(t, "r", "a"))
	f.replace(cluster(t, "b", 1), listener(t, "l", 80), route(t, "r", "b"))
	c := f.connect(adsState)
	c.version[fsm.TypeCluster] = "of another control plane"
	c.ask(fsm.TypeCluster)
	c.accept("cluster a b")
	c.ask(fsm.TypeListener)
	c.accept("listener l")
	c.ask(fsm.TypeRoute, "r")
	c.accept("route r")
	c.accept("cluster b")
	c.quiet()
}

// A fleet that was deleted while no proxy was connected configures nobody.
func TestReturnToADeletedFleet(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1))
	c := f.connect(adsDelta)
	c.ask(fsm.TypeCluster)
	c.accept("cluster a")
	c.close()
	eventually(t, "stream ended", func() bool { return f.server.Streams() == 0 })
	f.deleteFleet("default", "web")
	c = f.connect(adsDelta)
	c.ask(fsm.TypeCluster)
	c.quiet()
}

// A stream that asks for endpoints alone, of what does not exist, is told so
// once more after the grace, not for ever.
func TestEndpointsThatDoNotExist(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t, func(c *Config) { c.WarmingGrace = c.ReportInterval })
		f.replace(cluster(t, "a", 1))
		c := f.connect(method)
		c.ask(fsm.TypeEndpoints, "ghost")
		c.accept(c.pick("endpoints ghost", "endpoints -ghost"))
		c.quiet()
		c.quiet()
	})
}

// A proxy that another node sent a step of a change is not sent what it
// rejects as a guess of what it has, for ever.
func TestAGuessIsNotInsistedOn(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "bad", 1))
	f.replace(cluster(t, "a", 1))
	f.replace(cluster(t, "b", 1))
	c := f.connect(adsState)
	c.version[fsm.TypeCluster] = "a step of another node"
	c.ask(fsm.TypeCluster)
	c.nack(c.want("cluster a b bad"), "bad is bad")
	c.accept("cluster b")
	c.quiet()
	f.wantSync("p1", 0, "SYNCED", f.lastRevision())
}

// What a proxy claims and nobody has any more cannot be sent: one that asks
// for it is told that it is gone.
func TestAClaimThatIsGoneIsToldOf(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1), listener(t, "l", 80))
	c := f.connect(adsDelta)
	c.resume(fsm.TypeCluster, map[string]string{"a": "9-0000000000000001", "gone": "9-0000000000000002"})
	r := c.want("cluster a")
	c.ask(fsm.TypeCluster, "gone")
	c.ack(r)
	c.accept("cluster -gone")
	c.quiet()
}

// A wildcard that is given up and taken again while a response is under way is
// answered with what the proxy has forgotten meanwhile.
func TestAWildcardTakenAgain(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1), cluster(t, "b", 1))
	c := f.connect(adsDelta)
	c.ask(fsm.TypeCluster)
	c.accept("cluster a b")
	f.replace(cluster(t, "a", 2), cluster(t, "b", 1))
	r := c.want("cluster a")
	c.unsubscribe(fsm.TypeCluster, "*")
	c.ask(fsm.TypeCluster, "*")
	c.ack(r)
	c.accept("cluster a b")
	c.quiet()
}
