package xds

import (
	"context"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	clusterservice "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Statements of the protocol that no other test is about. CONFORMANCE.md names
// each of these tests.

// oneOfEach is a fleet with a resource of every type that has no source of
// its own.
func oneOfEach(t *testing.T) []*fsmpb.Resource {
	return []*fsmpb.Resource{
		cluster(t, "c", 1), listener(t, "l", 80), route(t, "r", "c"), virtualHost(t, "r", "v", "a.com"),
		resource(t, fsm.TypeScopedRoute, "s", scoped("s", "r")), resource(t, fsm.TypeRuntime, "rt", layer("rt")),
		resource(t, fsm.TypeExtension, "x", &corev3.TypedExtensionConfig{Name: "x"}),
	}
}

func scoped(name, route string) *routev3.ScopedRouteConfiguration {
	return &routev3.ScopedRouteConfiguration{Name: name, RouteConfigurationName: route}
}

func layer(name string) *runtimev3.Runtime { return &runtimev3.Runtime{Name: name} }

// Each type has its own service, with a method for each protocol (virtual
// hosts: delta only), and the aggregated one serves them all.
func TestEveryServiceAndMethod(t *testing.T) {
	f := newFixture(t)
	f.replace(oneOfEach(t)...)
	f.endpoints("c", 1)
	for _, s := range []struct{ service, method, url, name string }{
		{"cluster.v3.ClusterDiscoveryService", "Clusters", fsm.TypeCluster, "c"},
		{"endpoint.v3.EndpointDiscoveryService", "Endpoints", fsm.TypeEndpoints, "c"},
		{"listener.v3.ListenerDiscoveryService", "Listeners", fsm.TypeListener, "l"},
		{"route.v3.RouteDiscoveryService", "Routes", fsm.TypeRoute, "r"},
		{"route.v3.ScopedRoutesDiscoveryService", "ScopedRoutes", fsm.TypeScopedRoute, "s"},
		{"route.v3.VirtualHostDiscoveryService", "VirtualHosts", fsm.TypeVirtualHost, "r/v"},
		{"secret.v3.SecretDiscoveryService", "Secrets", fsm.TypeSecret, ""},
		{"runtime.v3.RuntimeDiscoveryService", "Runtime", fsm.TypeRuntime, "rt"},
		{"extension.v3.ExtensionConfigDiscoveryService", "ExtensionConfigs", fsm.TypeExtension, "x"},
	} {
		for _, p := range []string{"Stream", "Delta"} {
			only := "/envoy.service." + s.service + "/" + p + s.method
			c, url := f.connect(only), ""
			if p == "Stream" && s.url == fsm.TypeVirtualHost {
				if err := c.end(); status.Code(err) != codes.Unimplemented {
					t.Fatalf("%s: ended with %v", only, err)
				}
				continue
			}
			want := s.name
			if p == "Stream" {
				want = s.name[strings.LastIndexByte(s.name, '/')+1:] // the name in the body
			}
			ads := f.connect(map[string]string{"Stream": adsState, "Delta": adsDelta}[p])
			for _, c := range []*client{c, ads} {
				if s.name == "" { // secrets come from elsewhere
					c.ask(url, "nowhere")
					if c.delta {
						c.accept("secret -nowhere")
					}
				} else {
					c.ask(url, s.name)
					c.accept(fsm.ShortType(s.url) + " " + want)
				}
				c.close()
				url = s.url // on the aggregated stream it must be said
			}
		}
	}
}

// The methods for polling are not served.
func TestPollingIsNotServed(t *testing.T) {
	f := newFixture(t)
	_, err := clusterservice.NewClusterDiscoveryServiceClient(f.conn).FetchClusters(context.Background(), &discoveryv3.DiscoveryRequest{Node: node("p1", "web", "")})
	if status.Code(err) != codes.Unimplemented {
		t.Fatalf("answered with %v", err)
	}
}

// The documentation's own examples of wildcards, in order.
func TestWildcardExamples(t *testing.T) {
	one := func(t *testing.T) []*fsmpb.Resource { return []*fsmpb.Resource{cluster(t, "A", 1), cluster(t, "B", 1)} }
	two := func(t *testing.T) []*fsmpb.Resource { return []*fsmpb.Resource{cluster(t, "A", 2), cluster(t, "B", 2)} }
	t.Run("sotw", func(t *testing.T) {
		f := newFixture(t)
		f.replace(one(t)...)
		c := f.connect(adsState)
		c.ask(fsm.TypeCluster) // "*"
		r := c.accept("cluster A B")
		c.again(r, "*", "A") // "*" and A
		r = c.want("cluster A B")
		c.ack(r, "*", "A")
		f.replace(two(t)...)
		r = c.want("cluster A B")
		c.ack(r, "*", "A")
		c.again(r, "A") // A alone
		r = c.want("cluster A")
		c.ack(r, "A")
		f.replace(cluster(t, "A", 2), cluster(t, "B", 3))
		c.quiet()
		c.again(r) // nothing: no wildcard, for there have been names
		c.ack(c.want("cluster"))
		f.replace(one(t)...)
		c.quiet()
	})
	t.Run("delta", func(t *testing.T) {
		f := newFixture(t)
		f.replace(one(t)...)
		c := f.connect(adsDelta)
		c.ask(fsm.TypeCluster)
		c.accept("cluster A B")
		c.ask(fsm.TypeCluster, "A")
		c.accept("cluster A")
		f.replace(two(t)...)
		c.accept("cluster A B")
		c.unsubscribe(fsm.TypeCluster, "*")
		eventually(t, "A alone", func() bool { return !f.typeOf(fsm.TypeCluster).Wildcard })
		f.replace(cluster(t, "A", 3), cluster(t, "B", 3))
		c.accept("cluster A")
		c.unsubscribe(fsm.TypeCluster, "A")
		eventually(t, "nothing", func() bool { return f.typeOf(fsm.TypeCluster).Names == 0 })
		f.replace(one(t)...)
		c.quiet()
	})
}

// again sends a state-of-the-world request that is no ACK: the proxy's last
// version and nonce with other names.
func (c *client) again(r *response, names ...string) {
	c.t.Helper()
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: r.url, ResponseNonce: r.nonce, VersionInfo: r.version, ResourceNames: names})
}

// Both notations of a wildcard are one, also in a first request.
func TestWildcardNotations(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		f.replace(cluster(t, "a", 1), listener(t, "l", 80))
		c := f.connect(method)
		c.ask(fsm.TypeCluster, "*")
		r := c.want("cluster a")
		c.ack(r, "*")
		c.ask(fsm.TypeListener)
		c.accept("listener l")
		f.replace(cluster(t, "a", 1), cluster(t, "b", 1), listener(t, "l", 80), listener(t, "m", 81))
		c.ack(c.want(c.pick("cluster a b", "cluster b")), "*")
		c.accept(c.pick("listener l m", "listener m"))
	})
	// In delta a first request that only unsubscribes asks for nothing.
	f := newFixture(t)
	f.replace(cluster(t, "a", 1))
	c := f.connect(adsDelta)
	c.unsubscribe(fsm.TypeCluster, "*")
	c.quiet()
	c.ask(fsm.TypeCluster, "a")
	c.accept("cluster a")
	c.unsubscribe(fsm.TypeCluster, "never", "asked for")
	c.quiet()
}

// What a fleet has none of: a wildcard of a type that is sent whole and any
// wildcard in delta are told so, names only in delta.
func TestTypesThatTheFleetLacks(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		f.replace(cluster(t, "a", 1))
		c := f.connect(method)
		for _, url := range []string{fsm.TypeListener, fsm.TypeScopedRoute} {
			c.ask(url)
			c.accept(fsm.ShortType(url))
		}
		for _, url := range []string{fsm.TypeRoute, fsm.TypeRuntime, fsm.TypeExtension, fsm.TypeSecret} {
			c.ask(url, "n")
			if c.delta {
				c.accept(fsm.ShortType(url) + " -n")
			}
		}
		c.quiet()
		f.replace(cluster(t, "a", 1), resource(t, fsm.TypeRuntime, "n", layer("n")))
		c.accept("runtime n")
	})
}

// Types may be asked for in any order; each has its versions and nonces.
func TestTypesAreApart(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		f.replace(cluster(t, "a", 1), listener(t, "l", 80), route(t, "r", "a"))
		f.endpoints("a", 1)
		c := f.connect(method)
		c.ask(fsm.TypeRoute, "r")
		routes := c.want("route r")
		c.ask(fsm.TypeEndpoints, "a")
		endpoints := c.want("endpoints a")
		// The nonce of another type answers nothing: the NACK is of the one
		// type's, the ACK of the other's.
		mixed := *endpoints
		mixed.nonce = routes.nonce
		c.nack(&mixed, "not mine", "a")
		if s := f.typeOf(fsm.TypeEndpoints); s.Acked != "" || s.RejectedDetail != "" {
			t.Fatalf("after another type's nonce: %v", s)
		}
		c.nack(routes, "no", "r")
		c.ack(endpoints)
		c.ask(fsm.TypeListener)
		c.accept("listener l")
		c.ask(fsm.TypeCluster)
		c.accept("cluster a")
		c.accept("endpoints a")
		c.quiet()
		eventually(t, "each as it was answered", func() bool {
			return f.typeOf(fsm.TypeRoute).RejectedDetail == "no" && f.typeOf(fsm.TypeEndpoints).Acked != "" && f.typeOf(fsm.TypeListener).RejectedDetail == ""
		})
	})
}

// The first request says whose stream it is, later nodes do not.
func TestOnlyTheFirstNodeCounts(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		f.replace(cluster(t, "a", 1), listener(t, "l", 80))
		f.replaceIn("default", "edge", listener(t, "other", 81))
		c := f.connect(method)
		c.ask(fsm.TypeCluster)
		c.accept("cluster a")
		c.node = node("p2", "edge", "")
		c.ask(fsm.TypeListener)
		c.accept("listener l")
	})
}

// It is error_detail that makes a NACK, not the version that a request
// repeats.
func TestANackIsItsErrorDetail(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1))
	f.endpoints("a", 1)
	f.endpoints("b", 1)
	c := f.connect(adsState)
	c.ask(fsm.TypeEndpoints, "a")
	c.accept("endpoints a")
	f.endpoints("a", 2)
	r := c.want("endpoints a")
	c.send(&discoveryv3.DiscoveryRequest{
		TypeUrl: fsm.TypeEndpoints, ResponseNonce: r.nonce, VersionInfo: "an older one", ResourceNames: []string{"a"},
	})
	eventually(t, "accepted", func() bool { return f.typeOf(fsm.TypeEndpoints).Acked == r.version })
	// And a NACK may name the very version that it rejects: the name is new.
	c.again(r, "a", "b")
	r = c.next()
	c.version[r.url] = r.version
	c.nack(r, "b is bad", "a", "b")
	eventually(t, "rejected", func() bool { return f.typeOf(fsm.TypeEndpoints).RejectedDetail == "b is bad" })
	c.quiet()
}

// Subscriptions count whatever nonce is next to them, at once; what they lead
// to follows the answer to what is under way.
func TestSubscriptionsCountWithAnyNonce(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1))
	for i, name := range []string{"a", "b", "c"} {
		f.endpoints(name, uint32(i+1))
	}
	c := f.connect(adsDelta)
	c.ask(fsm.TypeEndpoints, "a")
	old := c.accept("endpoints a")
	f.endpoints("a", 9)
	r := c.want("endpoints a")
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: fsm.TypeEndpoints, ResponseNonce: old.nonce, ResourceNamesSubscribe: []string{"b"}})
	c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: fsm.TypeEndpoints, ResponseNonce: "of nobody", ResourceNamesSubscribe: []string{"c"}})
	c.quiet()
	c.ack(r)
	c.accept("endpoints b c")
	// An ACK may subscribe as well.
	f.endpoints("a", 10)
	r = c.want("endpoints a")
	c.send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: fsm.TypeEndpoints, ResponseNonce: r.nonce, ResourceNamesSubscribe: []string{"d"}, ResourceNamesUnsubscribe: []string{"b"},
	})
	c.accept("endpoints -d")
	c.quiet()
}

// The newest request of a type stands for those before it.
func TestTheNewestRequestStands(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1))
	for _, name := range []string{"a", "b", "c"} {
		f.endpoints(name, 1)
	}
	c := f.connect(adsState)
	c.ask(fsm.TypeEndpoints, "a")
	r := c.want("endpoints a")
	c.again(&response{url: r.url}, "a", "b")
	c.again(&response{url: r.url}, "c")
	c.quiet()
	c.ack(r, "c")
	c.ack(c.want("endpoints c"), "c")
	f.endpoints("b", 2)
	c.quiet()
}

// A proxy that comes back for one more name gets it, although its version is
// that of the rest.
func TestReturnForOneMoreName(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1))
	f.endpoints("a", 1)
	f.endpoints("b", 1)
	const endpoints = "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints"
	c := f.connect(endpoints)
	c.ask(fsm.TypeEndpoints, "a")
	c.accept("endpoints a")
	again := f.connect(endpoints)
	again.version = c.version
	c.close()
	again.ask(fsm.TypeEndpoints, "a", "b")
	again.ack(again.want("endpoints a b"), "a", "b")
	again.quiet()
}

// The version of a type changes whenever one of its resources does, and with
// no other type.
func TestVersionInfo(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1), listener(t, "l", 80))
	c := f.connect(adsState)
	c.ask(fsm.TypeCluster)
	one := c.accept("cluster a")
	c.ask(fsm.TypeListener)
	c.accept("listener l")
	f.replace(cluster(t, "a", 2), listener(t, "l", 80))
	two := c.accept("cluster a")
	c.quiet()
	f.replace(cluster(t, "a", 1), listener(t, "l", 80))
	if back := c.accept("cluster a"); two.version == one.version || back.version != one.version {
		t.Fatalf("versions %q %q %q", one.version, two.version, back.version)
	}
	// On another stream it is the same: it belongs to the resources.
	d := f.connect(adsState)
	d.ask(fsm.TypeCluster)
	if r := d.want("cluster a"); r.version != one.version {
		t.Fatalf("version %q on another stream, want %q", r.version, one.version)
	}
}

// Clusters by name, next to a wildcard and without one, as an on-demand filter
// asks for them: told at once, created later, dropped again.
func TestClustersOnDemand(t *testing.T) {
	for name, wildcard := range map[string]bool{"alone": false, "next to a wildcard": true} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.replace(cluster(t, "a", 1))
			c := f.connect(adsDelta)
			if wildcard {
				c.ask(fsm.TypeCluster, "*")
				c.accept("cluster a")
			}
			c.ask(fsm.TypeCluster, "late")
			c.accept("cluster -late")
			f.replace(cluster(t, "a", 1), cluster(t, "late", 1))
			c.accept("cluster late")
			c.ask(fsm.TypeCluster, "a") // has it or not: it is told
			c.accept("cluster a")
			f.replace(cluster(t, "a", 1))
			c.accept("cluster -late")
			c.unsubscribe(fsm.TypeCluster, "late")
			if wildcard {
				c.accept("cluster -late")
			}
			eventually(t, "dropped", func() bool { return f.typeOf(fsm.TypeCluster).Names == 1 })
			f.replace(cluster(t, "a", 2), cluster(t, "late", 2))
			c.accept(map[bool]string{true: "cluster a late", false: "cluster a"}[wildcard])
			c.quiet()
		})
	}
}

// Routes are asked for one by one, in both protocols.
func TestRoutesOnDemand(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		f.replace(cluster(t, "a", 1), route(t, "r", "a"), route(t, "s", "a"))
		c := f.connect(method)
		c.ask(fsm.TypeRoute, "r")
		r := c.accept("route r")
		if c.delta {
			c.ask(fsm.TypeRoute, "s")
		} else {
			c.again(r, "r", "s")
		}
		// In the state of the world a request that repeats a nonce is answered
		// with everything.
		c.ack(c.want(c.pick("route r s", "route s")), "r", "s")
		f.replace(cluster(t, "a", 1), route(t, "r", "b"), route(t, "s", "a"), route(t, "t", "a"))
		c.ack(c.want("route r"), "r", "s")
		c.quiet()
	})
}

// xdstp names are names like others.
func TestXdstpNames(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		const name = "xdstp://authority/envoy.config.cluster.v3.Cluster/some/cluster?a=b&c=d#entry"
		f := newFixture(t)
		f.replace(cluster(t, name, 1), cluster(t, "a", 1))
		c := f.connect(method)
		c.ask(fsm.TypeCluster, name)
		c.ack(c.want("cluster "+name), name)
		f.replace(cluster(t, name, 2), cluster(t, "a", 2))
		c.ack(c.want("cluster "+name), name)
		c.quiet()
	})
}

// A name may come in a locator, next to plain ones.
func TestNamesInLocators(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		f.replace(cluster(t, "a", 1), cluster(t, "b", 1))
		c := f.connect(method)
		l := []*discoveryv3.ResourceLocator{{Name: "b", DynamicParameters: map[string]string{"ignored": "x"}}}
		if c.delta {
			c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: fsm.TypeCluster, ResourceNamesSubscribe: []string{"a"}, ResourceLocatorsSubscribe: l})
			c.accept("cluster a b")
			c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: fsm.TypeCluster, ResourceLocatorsUnsubscribe: l})
			eventually(t, "a alone", func() bool { return f.typeOf(fsm.TypeCluster).Names == 1 })
			f.replace(cluster(t, "a", 2), cluster(t, "b", 2))
			c.accept("cluster a")
		} else {
			c.send(&discoveryv3.DiscoveryRequest{TypeUrl: fsm.TypeCluster, ResourceNames: []string{"a"}, ResourceLocators: l})
			c.want("cluster a b")
		}
		c.quiet()
	})
}
