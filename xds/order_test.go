package xds

import (
	"strings"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/fsm"
)

// pick returns the text for the protocol of a client.
func (c *client) pick(state, delta string) string {
	if c.delta {
		return delta
	}
	return state
}

// subscribeAll asks for clusters, endpoints, listeners and routes, and accepts
// them.
func (c *client) subscribeAll(endpoints []string, routes []string) {
	c.t.Helper()
	c.ask(fsm.TypeCluster)
	c.ack(c.next())
	c.ask(fsm.TypeEndpoints, endpoints...)
	c.ack(c.next())
	c.ask(fsm.TypeListener)
	c.ack(c.next())
	c.ask(fsm.TypeRoute, routes...)
	c.ack(c.next())
	c.quiet()
}

func TestMakeBeforeBreak(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		f.replace(cluster(t, "a", 1), listener(t, "l", 80), route(t, "r", "a"))
		f.endpoints("a", 1)
		f.endpoints("b", 2)
		c := f.connect(method)
		c.subscribeAll([]string{"a"}, []string{"r"})

		rev := f.replace(cluster(t, "b", 1), listener(t, "l", 81), route(t, "r", "b"))
		clusters := c.want(c.pick("cluster a b", "cluster b"))
		c.quiet() // listeners and routes wait for the ACK
		if w := f.streams("default", "web")[0].WaitingFor; !strings.Contains(w, "cluster: acknowledgement") {
			t.Fatalf("waits for %q", w)
		}
		// Endpoints do not wait: Envoy withholds the ACK until it has them.
		if c.delta {
			c.ask(fsm.TypeEndpoints, "b")
			c.accept("endpoints b")
		} else {
			c.ask(fsm.TypeEndpoints, "a", "b")
			c.ack(c.want("endpoints b"), "a", "b")
		}
		c.quiet()
		c.ack(clusters)
		listeners := c.want("listener l")
		c.quiet() // routes wait for the listeners
		c.ack(listeners)
		routes := c.want("route r")
		c.quiet() // removals come last
		c.ack(routes)
		f.wantSync("p1", rev, "PENDING", rev-1)
		c.accept(c.pick("cluster b", "cluster -a"))
		c.quiet()
		f.wantSync("p1", rev, "SYNCED", rev)
	})
}

func TestListenersGoBeforeClusters(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		f.replace(cluster(t, "a", 1), listener(t, "l1", 80), route(t, "r", "a"))
		c := f.connect(method)
		c.subscribeAll([]string{"a"}, []string{"r"})
		f.replace(cluster(t, "b", 1), listener(t, "l2", 81), route(t, "r", "b"))
		c.accept(c.pick("cluster a b", "cluster b"))
		c.accept(c.pick("listener l1 l2", "listener l2"))
		c.accept("route r")
		listeners := c.want(c.pick("listener l2", "listener -l1"))
		c.quiet()
		c.ack(listeners)
		c.accept(c.pick("cluster b", "cluster -a"))
		c.quiet()
		if w := f.streams("default", "web")[0].WaitingFor; w != "" {
			t.Fatalf("waits for %q", w)
		}
	})
}

// Envoy cannot add a listener on an address before the one that has it is
// gone: they change in one step.
func TestListenerTakesOverAnAddress(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		f.replace(cluster(t, "a", 1), listener(t, "old", 80), listener(t, "other", 90))
		c := f.connect(method)
		c.ask(fsm.TypeCluster)
		c.accept("cluster a")
		c.ask(fsm.TypeListener)
		c.accept("listener old other")
		f.replace(cluster(t, "a", 1), listener(t, "new", 80))
		c.accept(c.pick("listener new other", "listener new -old"))
		c.accept(c.pick("listener new", "listener -other"))
		c.quiet()
	})
}

func TestGatesOpenByTimeout(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		const gate = 150 * time.Millisecond
		f := newFixture(t, func(c *Config) { c.GateTimeout = gate })
		f.replace(cluster(t, "a", 1), listener(t, "l", 80), route(t, "r", "a"))
		c := f.connect(method)
		c.subscribeAll([]string{"a"}, []string{"r"})
		f.replace(cluster(t, "b", 1), listener(t, "l", 81), route(t, "r", "b"))
		clusters := c.want(c.pick("cluster a b", "cluster b"))
		began := time.Now()
		listeners := c.want("listener l")
		if d := time.Since(began); d < gate-20*time.Millisecond {
			t.Fatalf("the gate opened after %v", d)
		}
		if w := f.streams("default", "web")[0].WaitingFor; !strings.Contains(w, "timeout") {
			t.Fatalf("waits for %q", w)
		}
		routes := c.want("route r") // the listeners' gate opens as well
		c.ack(listeners)
		c.ack(routes)
		c.quiet() // one response of a type at a time
		c.ack(clusters)
		c.accept(c.pick("cluster b", "cluster -a"))
		c.quiet()
	})
}

// Changes that come while one is under way join it: the newest state wins and
// removals stay last.
func TestChangesDuringAChange(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		f.replace(cluster(t, "a", 1), listener(t, "l", 80), route(t, "r", "a"))
		c := f.connect(method)
		c.subscribeAll([]string{"a"}, []string{"r"})
		f.replace(cluster(t, "b", 1), listener(t, "l", 80), route(t, "r", "b"))
		r := c.want(c.pick("cluster a b", "cluster b"))
		f.replace(cluster(t, "c", 1), listener(t, "l", 80), route(t, "r", "c"))
		rev := f.replace(cluster(t, "d", 1), listener(t, "l", 80), route(t, "r", "d"))
		c.quiet()
		c.ack(r)
		c.accept(c.pick("cluster a b d", "cluster d"))
		c.accept("route r")
		c.accept(c.pick("cluster d", "cluster -a -b"))
		c.quiet()
		f.wantSync("p1", rev, "SYNCED", rev)
	})
}

func TestEndpointsFollowAChangedCluster(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		f.replace(cluster(t, "a", 1), cluster(t, "b", 1))
		f.endpoints("a", 1)
		f.endpoints("b", 2)
		c := f.connect(method)
		c.ask(fsm.TypeCluster)
		c.accept("cluster a b")
		c.ask(fsm.TypeEndpoints, "a", "b")
		c.accept("endpoints a b")
		f.replace(cluster(t, "a", 2), cluster(t, "b", 1))
		clusters := c.want(c.pick("cluster a b", "cluster a"))
		c.ack(c.want("endpoints a"), "a", "b") // before the clusters are accepted
		c.ack(clusters)
		c.quiet()
		// Also when the endpoints change while some are under way.
		f.endpoints("b", 3)
		r := c.want("endpoints b")
		f.replace(cluster(t, "a", 3), cluster(t, "b", 1))
		c.ack(c.want(c.pick("cluster a b", "cluster a")))
		c.quiet()
		c.ack(r, "a", "b")
		c.ack(c.want("endpoints a"), "a", "b")
		c.quiet()
	})
}

func TestReconnectWithChangedClusterGetsItsEndpoints(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1))
	f.endpoints("a", 1)
	c := f.connect(adsDelta)
	c.ask(fsm.TypeCluster)
	clusters := c.accept("cluster a")
	c.ask(fsm.TypeEndpoints, "a")
	endpoints := c.accept("endpoints a")
	c.close()
	f.replace(cluster(t, "a", 2))
	for _, clustersFirst := range []bool{true, false} {
		c = f.connect(adsDelta)
		if clustersFirst {
			c.resume(fsm.TypeCluster, clusters.versions)
			c.accept("cluster a")
			c.resume(fsm.TypeEndpoints, endpoints.versions, "a")
		} else {
			c.resume(fsm.TypeEndpoints, endpoints.versions, "a")
			c.quiet()
			c.resume(fsm.TypeCluster, clusters.versions)
			c.accept("cluster a")
		}
		c.accept("endpoints a")
		c.quiet()
		c.close()
	}
}

// At most one response of a type is under way; the newest content wins.
func TestAcksClockTheSends(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		f.replace(cluster(t, "a", 1))
		f.endpoints("a", 1)
		c := f.connect(method)
		c.ask(fsm.TypeEndpoints, "a")
		r := c.want("endpoints a")
		for port := uint32(2); port < 50; port++ {
			f.endpoints("a", port)
		}
		c.quiet()
		c.ack(r)
		r = c.accept("endpoints a")
		c.quiet()
		want, _ := f.current().Endpoints("default", "a")
		if got := marshal(t, r.bodies["a"]); string(got) != string(want.Body) {
			t.Fatal("not the newest endpoints")
		}
	})
}

// A turn looks at one revision: one that comes meanwhile does not show in the
// types that are looked at last alone.
func TestATurnLooksAtOneRevision(t *testing.T) {
	s, state := offline(t)
	st := s.fuzzStream(2, 1, &wire{codec: newCodec()})
	defer st.close()
	for _, code := range []int{8, 2} { // cluster a, all routes
		st.fuzzRequest(t, code)
	}
	for range 3 {
		st.ackNewest(t, 1)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	g := gates{stream: st, view: st.scope.view.Load(), now: time.Now(), timeout: time.Hour}
	change(t, s, state, 3) // of a and of the route
	if m := g.turn(); m != nil {
		t.Fatalf("a turn sends %s of a revision that came meanwhile", m.frame.to.kind.name)
	}
	g.view = st.scope.view.Load()
	if m := g.turn(); m == nil || m.frame.to.kind.url != fsm.TypeCluster {
		t.Fatalf("the next turn sends %v first", m)
	}
}
