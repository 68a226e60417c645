package xds

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func TestMalformedNodes(t *testing.T) {
	number := node("p", "web", "")
	number.Metadata = &structpb.Struct{Fields: map[string]*structpb.Value{"tenant": structpb.NewNumberValue(1)}}
	for name, c := range map[string]struct {
		node *corev3.Node
		want string
	}{
		"none":          {nil, "node.id"},
		"no id":         {node("", "web", ""), "node.id"},
		"no cluster":    {node("p", "", ""), "node.cluster"},
		"odd id":        {node("p\x00", "web", ""), "node.id"},
		"long id":       {node(strings.Repeat("p", 2000), "web", ""), "node.id"},
		"odd cluster":   {node("p", "Web Servers", ""), "node.cluster"},
		"odd tenant":    {node("p", "web", "../etc"), "tenant"},
		"tenant number": {number, "tenant"},
	} {
		both(t, func(t *testing.T, method string) {
			f := newFixture(t)
			c1 := f.connectAs(method, c.node)
			c1.ask(fsm.TypeCluster)
			if err := c1.end(); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%s: ended with %v, want %q", name, err, c.want)
			}
		})
	}
}

func TestIdentifySeam(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1))
	f.server.deps.Identify = func(_ context.Context, n *corev3.Node) (Identity, error) {
		if n.GetId() == "liar" {
			return Identity{}, errors.New("the certificate says otherwise")
		}
		return Identity{Tenant: "default", Fleet: "web", Proxy: "by-certificate"}, nil
	}
	c := f.connectAs(adsDelta, nil)
	c.ask(fsm.TypeCluster)
	c.accept("cluster a")
	f.wantSync("by-certificate", 0, "SYNCED", 1)
	liar := f.connectAs(adsDelta, node("liar", "web", ""))
	liar.ask(fsm.TypeCluster)
	if err := liar.end(); status.Code(err) != codes.PermissionDenied {
		t.Fatalf("ended with %v", err)
	}
}

func TestUnknownFleetWaits(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		c := f.connectAs(method, node("p1", "edge", "later"))
		c.ask(fsm.TypeCluster)
		c.ask(fsm.TypeListener)
		c.quiet()
		if w := f.streams("later", "edge")[0].WaitingFor; !strings.Contains(w, "fleet") {
			t.Fatalf("waits for %q", w)
		}
		f.tenant("later")
		f.fleet("later", "edge")
		c.quiet()
		f.replaceIn("later", "edge", cluster(t, "a", 1))
		c.accept("cluster a")
		c.accept("listener")
		c.quiet()
		// Proxies of a deleted fleet keep what they have.
		f.deleteFleet("later", "edge")
		c.quiet()
		f.replaceIn("later", "edge", cluster(t, "b", 1))
		c.accept(c.pick("cluster a b", "cluster b"))
		c.accept(c.pick("cluster b", "cluster -a"))
	})
}

func TestTenantsAndFleetsAreApart(t *testing.T) {
	f := newFixture(t)
	f.tenant("acme")
	f.replaceIn("default", "web", cluster(t, "a", 1))
	f.replaceIn("default", "edge", cluster(t, "b", 1))
	f.replaceIn("acme", "web", cluster(t, "c", 1))
	f.endpointsIn("default", "svc", 1)
	f.endpointsIn("acme", "svc", 2)
	web := f.connectAs(adsState, node("p", "web", ""))
	edge := f.connectAs(adsDelta, node("p", "edge", ""))
	acme := f.connectAs(adsDelta, node("p", "web", "acme"))
	for c, want := range map[*client]string{web: "cluster a", edge: "cluster b", acme: "cluster c"} {
		c.ask(fsm.TypeCluster)
		c.accept(want)
		c.ask(fsm.TypeEndpoints, "svc")
		c.accept("endpoints svc")
	}
	pushes := f.metric("ecp_xds_pushes_total")
	f.replaceIn("default", "edge", cluster(t, "b", 2))
	edge.accept("cluster b")
	edge.quiet()
	f.endpointsIn("acme", "svc", 3)
	acme.accept("endpoints svc")
	web.quiet()
	edge.quiet()
	acme.quiet()
	// Endpoints are one layer for all fleets of a tenant.
	f.endpointsIn("default", "svc", 4)
	web.accept("endpoints svc")
	edge.accept("endpoints svc")
	acme.quiet()
	if got := f.metric("ecp_xds_pushes_total") - pushes; got != 4 {
		t.Fatalf("%v pushes, want 4", got)
	}
}

// A frame is encoded once however many streams get it.
func TestFramesAreShared(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		f.replace(cluster(t, "a", 1), cluster(t, "b", 1))
		f.endpoints("a", 1)
		f.endpoints("b", 1)
		var clients []*client
		for _, id := range []string{"p1", "p2", "p3", "p4", "p5"} {
			c := f.connectAs(method, node(id, "web", ""))
			c.ask(fsm.TypeCluster)
			c.accept("cluster a b")
			c.ask(fsm.TypeEndpoints, "b", "a")
			c.accept("endpoints a b")
			clients = append(clients, c)
		}
		// Twice: by the first stream while it is the only one, and for all others.
		if n := f.metric("ecp_xds_frames_encoded_total"); n != 4 {
			t.Fatalf("%v frames encoded for the first configuration, want 4", n)
		}
		if n := f.server.subs.len(); n != 2 {
			t.Fatalf("%d subscriptions for one set of names and one wildcard", n)
		}
		f.endpoints("a", 2)
		for _, c := range clients {
			c.ack(c.want("endpoints a"), "a", "b")
		}
		f.replace(cluster(t, "a", 1), cluster(t, "b", 2))
		for _, c := range clients {
			c.accept(c.pick("cluster a b", "cluster b"))
			c.ack(c.want("endpoints b"), "a", "b")
		}
		if n := f.metric("ecp_xds_frames_encoded_total"); n != 7 {
			t.Fatalf("%v frames encoded after two changes, want 7", n)
		}
	})
}

// A client that never reads holds up nobody, and what it is owed stays
// bounded.
func TestAStalledClientDelaysNobody(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		big := make([]*fsmpb.Resource, 0, 40)
		for i := range 40 {
			big = append(big, listener(t, strings.Repeat("x", 20_000)+sprintf("%02d", i), 1000+i))
		}
		f.replace(append(big, cluster(t, "a", 1))...)
		f.endpoints("a", 1)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		stalled, err := discoveryv3.NewAggregatedDiscoveryServiceClient(f.dial()).StreamAggregatedResources(ctx)
		check(t, err)
		check(t, stalled.Send(&discoveryv3.DiscoveryRequest{Node: node("slow", "web", ""), TypeUrl: fsm.TypeListener}))
		for _, url := range []string{fsm.TypeEndpoints, fsm.TypeRoute, fsm.TypeCluster, fsm.TypeRuntime} {
			check(t, stalled.Send(&discoveryv3.DiscoveryRequest{TypeUrl: url, ResourceNames: []string{"a"}}))
		}
		c := f.connect(method)
		c.ask(fsm.TypeEndpoints, "a")
		c.accept("endpoints a")
		c.ask(fsm.TypeCluster)
		c.accept("cluster a")
		for i := range 100 {
			began := time.Now()
			f.endpoints("a", uint32(i+2))
			if d := time.Since(began); d > 500*time.Millisecond {
				t.Fatalf("Applied took %v", d)
			}
			c.accept("endpoints a")
		}
		c.quiet()
		if n := len(f.streams("default", "", "slow")[0].Types); n == 0 {
			t.Fatal("the stalled stream is not there")
		}
	})
}

func TestLimits(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.MaxNames = 100 })
	f.replace(cluster(t, "a", 1))
	names := make([]string, 101)
	for i := range names {
		names[i] = sprintf("%03d", i)
	}
	both(t, func(t *testing.T, method string) {
		c := f.connect(method)
		c.ask(fsm.TypeCluster, names...)
		if err := c.end(); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "100") {
			t.Fatalf("ended with %v", err)
		}
		c = f.connect(method)
		for i := range maxTypes + 1 {
			c.ask(sprintf("type.googleapis.com/test.T%d", i), "x")
		}
		if err := c.end(); status.Code(err) != codes.ResourceExhausted {
			t.Fatalf("ended with %v", err)
		}
		c = f.connect(method)
		c.ask("")
		if err := c.end(); status.Code(err) != codes.InvalidArgument {
			t.Fatalf("ended with %v", err)
		}
	})
	d := f.connect(adsDelta)
	d.ask(fsm.TypeEndpoints, names[:60]...)
	d.ask(fsm.TypeEndpoints, names[41:]...)
	if err := d.end(); status.Code(err) != codes.ResourceExhausted {
		t.Fatalf("ended with %v", err)
	}
	e := f.connect(adsDelta)
	long := strings.Repeat("n", 10_000)
	e.ask(fsm.TypeEndpoints, long)
	e.accept("endpoints -" + long)
}

// A type that the server does not know by name is served like the others.
func TestOtherTypes(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		const url = fsm.TypePrefix + "envoy.config.core.v3.GrpcService"
		f.replace(cluster(t, "a", 1), resource(t, url, "g", &corev3.GrpcService{}))
		c := f.connect(method)
		c.ask(url, "g")
		if r := c.next(); len(r.names) != 1 || r.url != url {
			t.Fatalf("got %v", r)
		}
	})
}

// Clients may ask for any type; the server forgets those that nobody asks for
// any more.
func TestTypesOfClientsAreForgotten(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1))
	keep := f.connect(adsDelta)
	keep.ask(fsm.TypeCluster)
	keep.accept("cluster a")
	for i := range 20 {
		c := f.connectAs(adsDelta, node("p2", "web", ""))
		for j := range 60 {
			c.ask(sprintf("type.googleapis.com/test.T%d.%d", i, j), "x")
			c.next()
		}
		c.close()
	}
	eventually(t, "streams ended", func() bool { return f.server.Streams() == 1 })
	f.replace(cluster(t, "a", 2))
	keep.accept("cluster a")
	f.server.hub.mu.Lock()
	v := f.server.hub.scopes[fleetKey{"default", "web"}].view.Load()
	f.server.hub.mu.Unlock()
	if n := len(v.sets); n != 1 {
		t.Fatalf("%d types remembered, want 1", n)
	}
	c := f.connect(adsDelta)
	c.ask(strings.Repeat("t", maxTypeURL+1), "x")
	if err := c.end(); status.Code(err) != codes.InvalidArgument {
		t.Fatalf("ended with %v", err)
	}
}

func TestDrain(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1))
	var clients []*client
	for i := range 20 {
		c := f.connectAs([]string{adsState, adsDelta}[i%2], node(sprintf("p%d", i), "web", ""))
		c.ask(fsm.TypeCluster)
		c.accept("cluster a")
		clients = append(clients, c)
	}
	eventually(t, "registered", func() bool { return f.streamsOf("p19") == 1 && f.server.reporter.idle() })
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	f.server.Drain(ctx)
	check(t, ctx.Err())
	for _, c := range clients {
		if err := c.end(); status.Code(err) != codes.Unavailable || status.Convert(err).Message() != "draining" {
			t.Fatalf("ended with %v", err)
		}
	}
	if n := f.server.Streams(); n != 0 {
		t.Fatalf("%d streams after the drain", n)
	}
	for p := range f.current().AllProxies() {
		if len(p.Streams) != 0 {
			t.Fatalf("%s still has streams", p.Id)
		}
	}
	for e := range f.current().Events(0) {
		if d := e.GetProxyDisconnected(); d != nil && d.Reason != "draining" {
			t.Fatalf("disconnected because %q", d.Reason)
		}
	}
	late := f.connect(adsState)
	if err := late.end(); status.Code(err) != codes.Unavailable {
		t.Fatalf("ended with %v", err)
	}
}
