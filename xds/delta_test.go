package xds

import (
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/org/envoy-control-plane/fsm"
)

func (c *client) unsubscribe(url string, names ...string) {
	c.t.Helper()
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: url, ResourceNamesUnsubscribe: names})
}

func (c *client) resume(url string, have map[string]string, names ...string) {
	c.t.Helper()
	c.send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: url, ResourceNamesSubscribe: names, InitialResourceVersions: have,
	})
}

func TestDeltaSendsWhatChanged(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1), cluster(t, "b", 1))
	c := f.connect(adsDelta)
	c.ask(fsm.TypeCluster)
	c.accept("cluster a b")
	f.replace(cluster(t, "a", 1), cluster(t, "b", 2), cluster(t, "c", 1))
	c.accept("cluster b c")
	f.replace(cluster(t, "c", 1))
	c.accept("cluster -a -b")
	c.quiet()
}

func TestDeltaEmptyWildcardIsAnswered(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1))
	c := f.connect(adsDelta)
	c.ask(fsm.TypeListener)
	c.accept("listener")
	c.quiet()
	f.replace(cluster(t, "a", 1), listener(t, "l", 80))
	c.accept("listener l")
}

func TestDeltaAbsentNames(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1))
	c := f.connect(adsDelta)
	c.ask(fsm.TypeEndpoints, "a", "b")
	c.accept("endpoints -a -b")
	c.quiet()
	f.endpoints("b", 1)
	c.accept("endpoints b")
	f.deleteEndpoints("b")
	c.accept("endpoints -b")
	// Asked for again, it is told again.
	c.ask(fsm.TypeEndpoints, "b")
	c.accept("endpoints -b")
	c.ask(fsm.TypeRoute, "r")
	c.accept("route -r")
	f.replace(cluster(t, "a", 1), route(t, "r", "a"))
	c.accept("route r")
}

func TestDeltaSubscribeAgainIsAnswered(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1))
	f.endpoints("a", 1)
	f.endpoints("b", 1)
	c := f.connect(adsDelta)
	c.ask(fsm.TypeEndpoints, "a", "b")
	c.accept("endpoints a b")
	c.ask(fsm.TypeEndpoints, "a") // already subscribed
	c.accept("endpoints a")
	c.unsubscribe(fsm.TypeEndpoints, "b")
	c.quiet()
	f.endpoints("b", 2)
	c.quiet()
	c.ask(fsm.TypeEndpoints, "b")
	c.accept("endpoints b")
	c.unsubscribe(fsm.TypeEndpoints, "b")
	c.ask(fsm.TypeEndpoints, "b")
	c.accept("endpoints b")
	c.quiet()
}

func TestDeltaWildcardNextToNames(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1))
	c := f.connect(adsDelta)
	c.ask(fsm.TypeCluster) // the old notation of a wildcard
	c.accept("cluster a")
	c.ask(fsm.TypeCluster, "ghost")
	c.accept("cluster -ghost")
	f.replace(cluster(t, "a", 1), cluster(t, "b", 1))
	c.accept("cluster b") // names next to a wildcard keep it
	c.ask(fsm.TypeCluster, "b")
	c.accept("cluster b")
	// What stays covered by the wildcard is told again.
	c.unsubscribe(fsm.TypeCluster, "b")
	c.accept("cluster b")
	c.unsubscribe(fsm.TypeCluster, "ghost")
	c.accept("cluster -ghost")
	c.ask(fsm.TypeCluster, "a")
	c.accept("cluster a")
	c.unsubscribe(fsm.TypeCluster, "*")
	c.quiet()
	f.replace(cluster(t, "a", 2), cluster(t, "b", 2))
	c.accept("cluster a")
	c.ask(fsm.TypeCluster, "*")
	c.accept("cluster b")
}

func TestDeltaNamesAloneAreNoWildcard(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1), cluster(t, "b", 1))
	c := f.connect(adsDelta)
	c.resume(fsm.TypeCluster, nil, "a")
	c.accept("cluster a")
	f.replace(cluster(t, "a", 1), cluster(t, "b", 2))
	c.quiet()
	f.replace(cluster(t, "b", 2))
	c.accept("cluster -a")
}

func TestDeltaReconnect(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1), cluster(t, "b", 1), route(t, "r", "a"))
	f.endpoints("a", 1)
	c := f.connect(adsDelta)
	c.ask(fsm.TypeCluster)
	clusters := c.accept("cluster a b")
	c.ask(fsm.TypeEndpoints, "a", "b")
	endpoints := c.accept("endpoints a -b")
	c.ask(fsm.TypeRoute, "r")
	routes := c.accept("route r")
	c.close()

	bytes := f.metric("ecp_xds_push_bytes_total")
	c = f.connect(adsDelta)
	c.resume(fsm.TypeCluster, clusters.versions)
	c.resume(fsm.TypeEndpoints, endpoints.versions, "a")
	c.resume(fsm.TypeRoute, routes.versions, "r")
	c.quiet()
	if got := f.metric("ecp_xds_push_bytes_total"); got != bytes {
		t.Fatalf("%v bytes sent to a proxy that had everything", got-bytes)
	}
	if got := f.syncOf("p1", 0); got != "SYNCED" {
		t.Fatalf("state %s, want SYNCED", got)
	}
	c.close()

	// Equal content under another index counts as had; what changed, went or
	// came does not.
	f.replace(cluster(t, "b", 2), cluster(t, "c", 1), route(t, "r", "x"))
	f.replace(cluster(t, "b", 2), cluster(t, "c", 1), route(t, "r", "a"))
	c = f.connect(adsDelta)
	c.resume(fsm.TypeCluster, clusters.versions)
	c.accept("cluster b c")
	c.accept("cluster -a")
	c.resume(fsm.TypeRoute, routes.versions, "r")
	c.quiet()
	// An absent name is told on a new stream too.
	c.resume(fsm.TypeEndpoints, endpoints.versions, "a", "b")
	c.accept("endpoints -b")
	c.quiet()
}

func TestDeltaResumeForeignVersions(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1))
	c := f.connect(adsDelta)
	c.resume(fsm.TypeCluster, map[string]string{"a": "v7", "gone": "17-0123456789abcdef"})
	c.accept("cluster a")
	c.accept("cluster -gone")
	c.quiet()
}
