package xds

import (
	"slices"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// virtualHost is <config>/<name> with an alias for each domain.
func virtualHost(t testing.TB, config, name string, domains ...string) *fsmpb.Resource {
	r := resource(t, fsm.TypeVirtualHost, config+"/"+name, &routev3.VirtualHost{Name: name, Domains: domains})
	for _, d := range domains {
		r.Aliases = append(r.Aliases, config+"/"+d)
	}
	r.Hash = fsm.ResourceHash(r.Body, r.Aliases, 0)
	return r
}

func TestHostsMatchAsEnvoyDoes(t *testing.T) {
	h := newHosts([]*item{
		{name: "r/any", aliases: []string{"r/*"}},
		{name: "r/exact", aliases: []string{"r/a.com", "r/A.org", "r/a.com:8080"}},
		{name: "r/long", aliases: []string{"r/*.x.a.com", "r/www.a.*"}},
		{name: "r/prefix", aliases: []string{"r/a.*", "r/www.*"}},
		{name: "r/suffix", aliases: []string{"r/*.a.com", "r/*-b.com"}},
		{name: "s/t/only", aliases: []string{"s/t/a.com", "s/t/a.com"}},
		{name: "s/t/second", aliases: []string{"s/t/a.com"}},
		{name: "s/t/wild", aliases: []string{"s/t/*.org"}},
	})
	for name, want := range map[string]string{
		"r/a.com": "r/exact", "r/A.COM": "r/exact", "r/a.org": "r/exact", "r/a.com:8080": "r/exact",
		"r/b.a.com": "r/suffix", "r/.a.com": "r/any", "r/c.x.a.com": "r/long", "r/x.a.com": "r/suffix",
		"r/a-b.com": "r/suffix", "r/-b.com": "r/any",
		"r/a.net": "r/prefix", "r/a.": "r/any", "r/www.a.net": "r/long", "r/www.b.net": "r/prefix",
		"r/www.a.com": "r/suffix", "r/else": "r/any",
		"s/t/a.com": "s/t/only", "s/t/b.org": "s/t/wild", "s/t/b.com": "", "s/a.com": "", "q/a.com": "", "r/": "", "": "", "r": "",
	} {
		got := ""
		if i := h.find(name); i != nil {
			got = i.name
		}
		if got != want {
			t.Errorf("%q leads to %q, want %q", name, got, want)
		}
	}
}

// wantAliases fails the test unless a resource has the aliases, among others.
func (c *client) wantAliases(r *response, name string, want ...string) {
	c.t.Helper()
	for _, w := range want {
		if !slices.Contains(r.aliases[name], w) {
			c.t.Fatalf("%s has the aliases %q, want %q among them", name, r.aliases[name], w)
		}
	}
}

func TestVirtualHostsOnDemand(t *testing.T) {
	for _, method := range []string{adsDelta, "/envoy.service.route.v3.VirtualHostDiscoveryService/DeltaVirtualHosts"} {
		f := newFixture(t)
		web := virtualHost(t, "r", "web", "a.com", "*.a.com")
		f.replace(web, virtualHost(t, "s", "other", "*"))
		c := f.connect(method)
		c.ask(fsm.TypeVirtualHost, "r/www.a.com")
		r := c.accept("virtual_host r/web")
		c.wantAliases(r, "r/web", "r/a.com", "r/*.a.com", "r/www.a.com")
		if r.bodies["r/web"] == nil || r.versions["r/web"] == "" {
			t.Fatal("no body or version")
		}
		// Envoy removes a virtual host by the name in its body.
		if body := r.bodies["r/web"]; !proto.Equal(body, &routev3.VirtualHost{Name: "r/web", Domains: []string{"a.com", "*.a.com"}}) {
			t.Fatalf("the body is %v", body)
		}

		// Another host of the same: sent again, for its request waits.
		c.ask(fsm.TypeVirtualHost, "r/a.com")
		c.wantAliases(c.accept("virtual_host r/web"), "r/web", "r/a.com", "r/www.a.com")

		// A miss, told at once and again when asked again.
		for range 2 {
			c.ask(fsm.TypeVirtualHost, "r/b.com")
			r = c.accept("virtual_host r/b.com")
			c.wantAliases(r, "r/b.com", "r/b.com")
			if r.bodies["r/b.com"] != nil {
				t.Fatalf("a miss has the body %v", r.bodies["r/b.com"])
			}
		}
		c.quiet()

		// A later host matches the missed one; one that nobody asked for is
		// not sent.
		f.replace(web, virtualHost(t, "r", "late", "b.*"), virtualHost(t, "r", "idle", "c.com"), virtualHost(t, "s", "other", "*"))
		c.wantAliases(c.accept("virtual_host r/late"), "r/late", "r/b.com")
		c.quiet()

		// A better match takes over: the host that nobody leads to any more goes.
		better := virtualHost(t, "r", "better", "b.com")
		f.replace(web, virtualHost(t, "r", "late", "b.*"), better)
		c.wantAliases(c.accept("virtual_host r/better -r/late"), "r/better", "r/b.com")

		// It goes, nothing else matches: removed, and a miss again.
		f.replace(web)
		c.accept("virtual_host r/b.com -r/better")
		c.unsubscribe(fsm.TypeVirtualHost, "r/b.com")
		c.quiet()
		f.replace(web, better)
		c.quiet()

		// By its name, which no host leads to.
		c.ask(fsm.TypeVirtualHost, "r/better")
		c.accept("virtual_host r/better")
		c.quiet()
		f.wantSync("p1", 0, "SYNCED", f.lastRevision())
	}
}

func (f *fixture) lastRevision() uint64 {
	r, _ := f.current().Revision("default", "web", 0)
	return r.Info.Revision
}

func TestVirtualHostsOnDemandNextToAWildcard(t *testing.T) {
	f := newFixture(t)
	web := virtualHost(t, "r", "web", "a.com")
	f.replace(web, virtualHost(t, "r", "x", "x.com"))
	c := f.connect(adsDelta)
	c.ask(fsm.TypeVirtualHost)
	c.accept("virtual_host r/web r/x")
	c.ask(fsm.TypeVirtualHost, "r/a.com", "r/b.com")
	c.wantAliases(c.accept("virtual_host r/b.com r/web"), "r/web", "r/a.com")
	f.replace(web, virtualHost(t, "r", "x", "x.com", "b.com"))
	c.wantAliases(c.accept("virtual_host r/x"), "r/x", "r/b.com")
	c.quiet()
}

func TestVirtualHostsOnDemandResume(t *testing.T) {
	f := newFixture(t)
	web := virtualHost(t, "r", "web", "a.com")
	f.replace(web, virtualHost(t, "r", "old", "old.com"))
	c := f.connect(adsDelta)
	c.ask(fsm.TypeVirtualHost, "r/a.com", "r/old.com", "r/b.com")
	r := c.accept("virtual_host r/b.com r/old r/web")
	c.close()

	// What it has is not sent again; misses are told, what is gone is removed.
	f.replace(web)
	c = f.connect(adsDelta)
	c.resume(fsm.TypeVirtualHost, r.versions, "r/a.com", "r/old.com", "r/b.com")
	c.accept("virtual_host r/b.com r/old.com")
	c.quiet() // what goes waits for the clusters, for which it may yet ask
	c.resume(fsm.TypeCluster, nil)
	c.accept("cluster")
	c.accept("virtual_host -r/old")
	c.quiet()
}

// A miss waits for nobody, a hit for the clusters that it may lead to.
func TestMissesPassTheGates(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.GateTimeout = time.Minute })
	f.replace(cluster(t, "a", 1), virtualHost(t, "r", "web", "a.com"))
	c := f.connect(adsDelta)
	c.ask(fsm.TypeCluster)
	clusters := c.want("cluster a")
	c.ask(fsm.TypeVirtualHost, "r/b.com")
	c.accept("virtual_host r/b.com")
	c.ask(fsm.TypeVirtualHost, "r/a.com", "r/c.com")
	c.accept("virtual_host r/c.com")
	c.ask(fsm.TypeVirtualHost, "r/b.com")
	c.accept("virtual_host r/b.com")
	c.quiet()
	c.ack(clusters)
	c.accept("virtual_host r/web")
	c.quiet()
}

// A rejected virtual host is parked until it changes or is asked for again.
func TestRejectedVirtualHostOnDemand(t *testing.T) {
	f := newFixture(t)
	f.replace(virtualHost(t, "r", "web", "a.com"))
	c := f.connect(adsDelta)
	c.ask(fsm.TypeVirtualHost, "r/a.com", "r/b.com")
	c.nack(c.want("virtual_host r/b.com r/web"), "bad")
	c.quiet()
	c.ask(fsm.TypeVirtualHost, "r/a.com")
	c.nack(c.want("virtual_host r/b.com r/web"), "bad")
	f.replace(virtualHost(t, "r", "web", "b.com"))
	c.accept("virtual_host r/a.com r/web -r/b.com") // it may have believed one thing or the other
	c.quiet()
}

// The state of the world has no aliases; names work as for other types.
func TestVirtualHostsInTheStateOfTheWorld(t *testing.T) {
	f := newFixture(t)
	f.replace(virtualHost(t, "r", "web", "a.com"))
	c := f.connect(adsState)
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: fsm.TypeVirtualHost, ResourceNames: []string{"r/b.com", "r/web"}})
	c.accept("virtual_host r/web")
	c.quiet()
}
