package xds

import (
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/org/envoy-control-plane/fsm"
)

func TestStateNamesAlone(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1), cluster(t, "b", 1))
	c := f.connect(adsState)
	c.ask(fsm.TypeCluster, "b", "missing")
	c.ack(c.want("cluster b"), "b", "missing")
	f.replace(cluster(t, "a", 2), cluster(t, "b", 1))
	c.quiet() // a is not asked for
	f.replace(cluster(t, "a", 2), cluster(t, "b", 1), cluster(t, "missing", 1))
	c.ack(c.want("cluster b missing"), "b", "missing")
}

func TestStateStarNextToNames(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1))
	c := f.connect(adsState)
	c.ask(fsm.TypeCluster, "*", "x")
	r := c.want("cluster a")
	c.ack(r, "*", "x")
	f.replace(cluster(t, "a", 1), cluster(t, "x", 1))
	r = c.want("cluster a x")
	c.ack(r, "*", "x")
	// The wildcard goes with its star; an empty list is then no wildcard.
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: fsm.TypeCluster, ResourceNames: []string{"x"}, ResponseNonce: r.nonce, VersionInfo: r.version})
	r = c.want("cluster x")
	c.ack(r, "x")
	f.replace(cluster(t, "a", 2), cluster(t, "x", 1))
	c.quiet()
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: fsm.TypeCluster, ResponseNonce: r.nonce, VersionInfo: r.version})
	c.ack(c.want("cluster"))
	f.replace(cluster(t, "a", 2), cluster(t, "x", 2))
	c.quiet()
}

func TestStateRemovesByLeavingOut(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1), cluster(t, "b", 1))
	c := f.connect(adsState)
	c.ask(fsm.TypeCluster)
	c.accept("cluster a b")
	f.replace(cluster(t, "a", 1))
	c.accept("cluster a")
	f.replace()
	c.accept("cluster")
	c.quiet()
}

func TestStateAbsentEndpointsAreAnEmptyAssignment(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1))
	c := f.connect(adsState)
	c.ask(fsm.TypeEndpoints, "a")
	r := c.accept("endpoints a")
	if m := r.bodies["a"].(interface{ String() string }).String(); m != `cluster_name:"a"` {
		t.Fatalf("assignment %q, want an empty one", m)
	}
	c.quiet()
	f.endpoints("a", 1)
	c.accept("endpoints a")
	f.deleteEndpoints("a")
	r = c.accept("endpoints a")
	if m := r.bodies["a"].(interface{ String() string }).String(); m != `cluster_name:"a"` {
		t.Fatalf("assignment %q after it was deleted, want an empty one", m)
	}
}

func TestStateAbsentRouteHangsNothing(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1), route(t, "r", "a"))
	c := f.connect(adsState)
	c.ask(fsm.TypeRoute, "ghost")
	c.quiet()
	c.ask(fsm.TypeCluster)
	c.accept("cluster a")
	c.ask(fsm.TypeRoute, "ghost", "r")
	c.ack(c.want("route r"), "ghost", "r")
	f.replace(cluster(t, "a", 1), route(t, "r", "a"), route(t, "ghost", "a"))
	c.ack(c.want("route ghost"), "ghost", "r")
	eventually(t, "synced", func() bool { return f.syncOf("p1", 0) == "SYNCED" })
}

// Envoy repeats an accepted response's nonce when a warming cluster needs its
// endpoints; it must be answered although nothing has changed.
func TestStateRepeatedNonceIsAnswered(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1))
	f.endpoints("a", 1)
	f.endpoints("b", 1)
	c := f.connect(adsState)
	c.ask(fsm.TypeEndpoints, "a", "b")
	r := c.accept("endpoints a b")
	c.quiet()
	c.ack(r)
	r = c.want("endpoints a b")
	c.ack(r)
	c.quiet()
	// With another name next to it, everything is answered too.
	c.ack(r, "a", "b", "c")
	r = c.want("endpoints a b c")
	c.ack(r)
	c.quiet()
}

func TestStateStaleNonce(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1))
	f.endpoints("a", 1)
	f.endpoints("b", 1)
	c := f.connect(adsState)
	c.ask(fsm.TypeEndpoints, "a")
	r := c.want("endpoints a")
	// A nonce that is not that of the response under way is no ACK, but the
	// names count.
	c.send(&discoveryv3.DiscoveryRequest{
		TypeUrl: fsm.TypeEndpoints, ResourceNames: []string{"a", "b"}, ResponseNonce: "other", VersionInfo: r.version,
	})
	c.quiet()
	if s := f.typeOf(fsm.TypeEndpoints); s.Acked != "" || s.Names != 2 {
		t.Fatalf("after a stale nonce: %v", s)
	}
	c.ack(r, "a", "b")
	c.ack(c.want("endpoints b"), "a", "b")
	c.quiet()
}

func TestStateUnsubscribedNamesStaySilent(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1))
	f.endpoints("a", 1)
	f.endpoints("b", 1)
	c := f.connect(adsState)
	c.ask(fsm.TypeEndpoints, "a", "b")
	r := c.want("endpoints a b")
	c.ack(r, "a")
	c.quiet()
	f.endpoints("b", 2)
	c.quiet()
	f.endpoints("a", 2)
	r = c.want("endpoints a")
	c.ack(r, "a")
	// Asked for again, it is sent again.
	c.ack(r, "a", "b")
	c.ack(c.want("endpoints a b"), "a", "b")
}

func TestStateReconnectSettled(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1), listener(t, "l", 80), route(t, "r", "a"))
	f.endpoints("a", 1)
	asks := func(c *client) {
		c.ask(fsm.TypeCluster)
		c.ask(fsm.TypeEndpoints, "a")
		c.ask(fsm.TypeListener)
		c.ask(fsm.TypeRoute, "r")
	}
	c := f.connect(adsState)
	asks(c)
	for range 4 {
		c.ack(c.next())
	}
	again := f.connect(adsState)
	again.version = c.version
	c.close()
	bytes := f.metric("ecp_xds_push_bytes_total")
	asks(again)
	again.quiet()
	if got := f.metric("ecp_xds_push_bytes_total"); got != bytes {
		t.Fatalf("%v bytes sent to a proxy that had everything", got-bytes)
	}
	eventually(t, "synced", func() bool { return f.syncOf("p1", 0) == "SYNCED" })
	f.endpoints("a", 2)
	again.accept("endpoints a")
	// What changed meanwhile is sent, whole.
	third := f.connect(adsState)
	third.version = again.version
	again.close()
	f.replace(cluster(t, "a", 2), listener(t, "l", 80), route(t, "r", "a"))
	asks(third)
	third.accept("cluster a")
	third.accept("endpoints a")
	third.quiet()
}

// A stream of a warming Envoy was cut; it asks for endpoints and, until the
// clusters have warmed, for nothing else.
func TestEndpointsOfAWarmingEnvoy(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t, func(c *Config) { c.WarmingGrace = c.ReportInterval * 20 })
		f.replace(cluster(t, "a", 1))
		f.endpoints("a", 1)
		first := f.connect(method)
		first.ask(fsm.TypeEndpoints, "a")
		r := first.accept("endpoints a")
		first.close()

		c := f.connect(method)
		reask := func(c *client) {
			if c.delta {
				c.send(&discoveryv3.DeltaDiscoveryRequest{
					TypeUrl: fsm.TypeEndpoints, ResourceNamesSubscribe: []string{"a"}, InitialResourceVersions: r.versions,
				})
				return
			}
			c.version[fsm.TypeEndpoints] = r.version
			c.ask(fsm.TypeEndpoints, "a")
		}
		reask(c)
		c.quiet()
		c.accept("endpoints a") // after the grace
		c.quiet()

		// One that asks for clusters is not warming.
		other := f.connect(method)
		reask(other)
		other.ask(fsm.TypeCluster)
		other.accept("cluster a")
		// The cluster was sent, so its endpoints are.
		other.accept("endpoints a")
		other.quiet()
	})
}

func TestSingleServices(t *testing.T) {
	for _, s := range []struct{ name, url, names, want string }{
		{"cluster.v3.ClusterDiscoveryService/%sClusters", fsm.TypeCluster, "", "cluster a"},
		{"endpoint.v3.EndpointDiscoveryService/%sEndpoints", fsm.TypeEndpoints, "a", "endpoints a"},
		{"listener.v3.ListenerDiscoveryService/%sListeners", fsm.TypeListener, "", "listener l"},
		{"route.v3.RouteDiscoveryService/%sRoutes", fsm.TypeRoute, "r", "route r"},
	} {
		for _, p := range []string{"Stream", "Delta"} {
			t.Run(p+" "+fsm.ShortType(s.url), func(t *testing.T) {
				f := newFixture(t)
				f.replace(cluster(t, "a", 1), listener(t, "l", 80), route(t, "r", "a"))
				f.endpoints("a", 1)
				c := f.connect("/envoy.service." + sprintf(s.name, p))
				var names []string
				if s.names != "" {
					names = []string{s.names}
				}
				c.ask("", names...) // the type goes without saying
				c.accept(s.want)
				c.quiet()
				if c.delta {
					c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: fsm.TypeSecret})
				} else {
					c.send(&discoveryv3.DiscoveryRequest{TypeUrl: fsm.TypeSecret})
				}
				if err := c.end(); status.Code(err) != codes.InvalidArgument {
					t.Fatalf("another type on a single service: %v", err)
				}
			})
		}
	}
}
