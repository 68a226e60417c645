package xds

import (
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

const testTTL = 600 * time.Millisecond

// living gives a resource a time to live.
func living(r *fsmpb.Resource, ttl time.Duration) *fsmpb.Resource {
	r.TtlMs = ttl.Milliseconds()
	r.Hash = fsm.ResourceHash(r.Body, r.Aliases, r.TtlMs)
	return r
}

// connectTTL opens a stream of a proxy that takes times to live.
func (f *fixture) connectTTL(method string) *client {
	n := node("p1", "web", "")
	n.ClientFeatures = []string{featureTTL, featureWrapped}
	return f.connectAs(method, n)
}

func TestTimesToLive(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		f.replace(living(route(t, "r", "a"), testTTL), route(t, "s", "a"), living(cluster(t, "a", 1), testTTL), cluster(t, "b", 1))
		c := f.connectTTL(method)
		c.ask(fsm.TypeRoute, "r", "s")
		first := c.want("route r s")
		if len(first.ttls) != 1 || first.ttls["r"] != testTTL {
			t.Fatalf("times to live %v", first.ttls)
		}
		time.Sleep(testTTL)
		c.quiet() // not accepted, nothing to keep alive
		c.ack(first, "r", "s")

		last := time.Now()
		for range 4 {
			r := c.want("route r")
			if d := time.Since(last); d > testTTL {
				t.Fatalf("a heartbeat after %v", d)
			}
			if last = time.Now(); r.ttls["r"] != testTTL {
				t.Fatalf("times to live %v", r.ttls)
			}
			if c.delta && (r.bodies["r"] != nil || r.versions["r"] != first.versions["r"]) {
				t.Fatalf("heartbeat %v %v", r.bodies, r.versions)
			}
			if !c.delta && (!proto.Equal(r.bodies["r"], first.bodies["r"]) || r.version != first.version) {
				t.Fatalf("heartbeat %v %v", r.bodies, r.version)
			}
			c.ack(r, "r", "s")
		}
		// One at a time: unanswered, it is the last.
		r := c.want("route r")
		time.Sleep(testTTL)
		c.quiet()
		f.wantSync("p1", 0, "SYNCED", f.lastRevision())
		c.ack(r, "r", "s")

		// Without a time to live it is sent once more, and that is all.
		f.replace(route(t, "r", "a"), route(t, "s", "a"))
		for {
			r = c.want("route r")
			c.ack(r, "r", "s")
			if len(r.ttls) == 0 {
				break
			}
		}
		if r.bodies["r"] == nil {
			t.Fatal("no body")
		}
		time.Sleep(testTTL)
		c.quiet()
		if n := f.metric("ecp_xds_rejections_total", "route"); n != 0 {
			t.Errorf("%v rejections", n)
		}
	})
}

// A state-of-the-world heartbeat of a type that is sent whole is whole: what
// it left out would be deleted.
func TestHeartbeatsOfWholeTypes(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		f.replace(living(cluster(t, "a", 1), testTTL), cluster(t, "b", 1), listener(t, "l", 80))
		c := f.connectTTL(method)
		c.ask(fsm.TypeCluster)
		c.accept("cluster a b")
		c.ask(fsm.TypeListener)
		c.accept("listener l")
		r := c.accept(c.pick("cluster a b", "cluster a"))
		if len(r.ttls) != 1 || r.ttls["a"] != testTTL {
			t.Fatalf("times to live %v", r.ttls)
		}
		// A change goes through, and what is new lives too.
		f.replace(living(cluster(t, "a", 1), testTTL), cluster(t, "b", 2), living(cluster(t, "c", 1), testTTL), listener(t, "l", 80))
		for len(r.ttls) < 2 || r.bodies["b"] != nil && !c.delta && len(r.names) < 3 {
			r = c.next()
			c.ack(r)
		}
		f.wantSync("p1", 0, "SYNCED", f.lastRevision())
	})
}

// Only clients that say so are sent times to live.
func TestTimesToLiveAreAFeature(t *testing.T) {
	for name, test := range map[string]struct {
		method   string
		features []string
		sent     bool
	}{
		"delta":                {adsDelta, nil, false},
		"sotw":                 {adsState, nil, false},
		"sotw without wrapper": {adsState, []string{featureTTL}, false},
		"sotw wrapper alone":   {adsState, []string{featureWrapped}, false},
		"sotw, other name":     {adsState, []string{featureTTL, featureWrappedToo}, true},
		"delta with":           {adsDelta, []string{featureTTL}, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.replace(living(route(t, "r", "a"), time.Hour))
			n := node("p1", "web", "")
			n.ClientFeatures = test.features
			c := f.connectAs(test.method, n)
			c.ask(fsm.TypeRoute, "r")
			r := c.accept("route r")
			if sent := r.ttls["r"] == time.Hour; sent != test.sent {
				t.Fatalf("time to live sent: %v", r.ttls)
			}
			c.quiet()
		})
	}
}

// What lives longer is not part of every heartbeat.
func TestLongerLives(t *testing.T) {
	f := newFixture(t)
	f.replace(living(route(t, "r", "a"), testTTL), living(route(t, "s", "a"), 4*testTTL))
	c := f.connectTTL(adsDelta)
	c.ask(fsm.TypeRoute, "r", "s")
	c.accept("route r s")
	both := 0
	for range 8 {
		r := c.next()
		if r.String() == "route r s" {
			both++
		}
		c.ack(r)
	}
	if both < 2 || both > 3 { // 3 when a slow machine missed some of the others
		t.Fatalf("%d of 8 heartbeats renew both, want 2", both)
	}
}

// A proxy that rejects heartbeats without bodies gets them with; after that
// none, until the content is another.
func TestRejectedHeartbeats(t *testing.T) {
	f := newFixture(t)
	one := f.replace(living(route(t, "r", "a"), testTTL))
	c := f.connectTTL(adsDelta)
	c.ask(fsm.TypeRoute, "r")
	c.accept("route r")
	r := c.want("route r")
	if r.bodies["r"] != nil {
		t.Fatal("a body")
	}
	c.nack(r, "what is this")
	if r = c.want("route r"); r.bodies["r"] == nil {
		t.Fatal("no body")
	}
	c.nack(r, "not that either")
	time.Sleep(testTTL)
	c.quiet()
	f.wantSync("p1", one, "SYNCED", one)
	f.replace(living(route(t, "r", "b"), testTTL))
	c.accept("route r")
	c.accept("route r")
}

// A proxy that comes back with everything is sent a heartbeat at once, for
// nobody knows how much time it has left, and no body in delta.
func TestHeartbeatOnReturn(t *testing.T) {
	f := newFixture(t)
	f.replace(living(route(t, "r", "a"), time.Hour))
	c := f.connectTTL(adsDelta)
	c.ask(fsm.TypeRoute, "r")
	have := c.accept("route r").versions
	c.quiet()
	c.close()
	c = f.connectTTL(adsDelta)
	c.resume(fsm.TypeRoute, have, "r")
	if r := c.accept("route r"); r.bodies["r"] != nil || r.ttls["r"] != time.Hour {
		t.Fatalf("%v %v", r.bodies, r.ttls)
	}
	c.quiet()
}

// Streams with the same content have the same heartbeats, from one timer; those
// without times to live have none.
func TestHeartbeatsAreShared(t *testing.T) {
	f := newFixture(t)
	f.replace(living(route(t, "r", "a"), testTTL))
	var cs []*client
	for range 10 {
		c := f.connectTTL(adsDelta)
		c.ask(fsm.TypeRoute, "r")
		c.accept("route r")
		cs = append(cs, c)
	}
	plain := f.connect(adsDelta)
	plain.ask(fsm.TypeRoute, "r")
	plain.accept("route r")
	for _, c := range cs {
		c.accept("route r")
	}
	encoded := f.metric("ecp_xds_frames_encoded_total")
	for range 3 {
		for _, c := range cs {
			c.accept("route r")
		}
	}
	if n := f.metric("ecp_xds_frames_encoded_total") - encoded; n < 2 || n > 4 {
		t.Errorf("%v frames encoded for 3 heartbeats", n)
	}
	f.server.beats.mu.Lock()
	streams, times := len(f.server.beats.of), len(f.server.beats.due)
	f.server.beats.mu.Unlock()
	if streams > 10 || times > 2 {
		t.Errorf("%d streams wait for %d times", streams, times)
	}
	plain.quiet()
}

// Frames with times to live are what protobuf would have made of them.
func TestTTLFramesAreTheirMessages(t *testing.T) {
	c := sampleContent(t)
	for _, i := range c.items {
		if i.state == present {
			i.ttl = 90*time.Second + 5*time.Millisecond
			i.ttlField = ttlField(i.ttl)
		}
	}
	c = newContent(c.kind, c.items, true)
	e := &encoder{metrics: newMetrics(nil)}
	got := &discoveryv3.DiscoveryResponse{}
	check(t, proto.Unmarshal(e.frame(c, frameKey{protocol: stateOfTheWorld, ttl: true}).body, got))
	r := &discoveryv3.Resource{}
	check(t, got.Resources[1].UnmarshalTo(r))
	if len(got.Resources) != 2 || r.Name != "b" || r.Version != c.items[2].version || r.Ttl.AsDuration() != 90005*time.Millisecond || string(r.Resource.Value) != string(c.items[2].body) {
		t.Fatalf("%v", got)
	}
	d := &discoveryv3.DeltaDiscoveryResponse{}
	check(t, proto.Unmarshal(e.frame(c, frameKey{protocol: delta, ttl: true}).body, d))
	if len(d.Resources) != 2 || d.Resources[0].Ttl.AsDuration() != 90005*time.Millisecond || d.Resources[0].Resource == nil {
		t.Fatalf("%v", d)
	}
	key := beatKey{protocol: delta, sub: &subscription{wildcard: true}, through: 1}
	d = &discoveryv3.DeltaDiscoveryResponse{}
	check(t, proto.Unmarshal(e.beat(c, key).body, d))
	if len(d.Resources) != 2 || d.Resources[1].Name != "b" || d.Resources[1].Resource != nil || d.Resources[1].Version != c.items[2].version {
		t.Fatalf("%v", d)
	}
	if again := e.beat(c, key); again != e.beat(c, key) {
		t.Error("encoded twice")
	}
}
