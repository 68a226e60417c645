package xds

import (
	"testing"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func (f *fixture) proxy(id string) *fsmpb.Proxy {
	p, _ := f.current().Proxy("default", id)
	return p
}

func TestRejectedContentIsParked(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		one := f.replace(cluster(t, "a", 1), listener(t, "l", 80))
		c := f.connect(method)
		c.ask(fsm.TypeCluster)
		good := c.accept("cluster a")
		f.wantSync("p1", one, "SYNCED", one)

		two := f.replace(cluster(t, "a", 2), listener(t, "l", 80))
		bad := c.want("cluster a")
		c.nack(bad, "cluster a is bad")
		c.quiet()
		f.wantSync("p1", two, "REJECTED", one)
		if p := f.sync("p1", two); p.RejectedDetail != "cluster a is bad" || p.RejectedType != fsm.TypeCluster {
			t.Fatalf("%v", p)
		}
		f.wantSync("p1", one, "SYNCED", one)
		want := bad.version
		if c.delta {
			want = bad.versions["a"]
		}
		k := f.typeOf(fsm.TypeCluster)
		if k.RejectedVersion != want || k.RejectedDetail != "cluster a is bad" || k.RejectedAt == 0 {
			t.Fatalf("type %v, want version %s", k, want)
		}
		eventually(t, "the state knows", func() bool { return len(f.proxy("p1").GetRejections()) == 1 })
		r := f.proxy("p1").Rejections[0]
		if r.Version != want || r.Detail != "cluster a is bad" || r.Revision != two || len(r.Resources) != 1 || r.Resources[0] != "a" {
			t.Fatalf("rejection %v", r)
		}

		// Nothing of it changes: nothing is sent.
		f.replace(cluster(t, "a", 2), listener(t, "l", 81))
		f.endpoints("x", 1)
		c.quiet()

		four := f.replace(cluster(t, "a", 3), listener(t, "l", 81))
		c.accept("cluster a")
		f.wantSync("p1", four, "SYNCED", four)
		eventually(t, "the state knows", func() bool { return len(f.proxy("p1").GetRejections()) == 0 })
		if n := f.metric("ecp_xds_rejections_total", "cluster"); n != 1 {
			t.Errorf("%v rejections", n)
		}
		_ = good
	})
}

// Going back to what the proxy has is a change of the rejected content, and
// clears up what it may have applied of it.
func TestRollbackAfterRejection(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		f.replace(cluster(t, "a", 1))
		c := f.connect(method)
		c.ask(fsm.TypeCluster)
		c.accept("cluster a")
		f.replace(cluster(t, "a", 2), cluster(t, "b", 1))
		c.nack(c.want("cluster a b"), "no")
		c.quiet()
		rev := f.replace(cluster(t, "a", 1))
		c.accept(c.pick("cluster a", "cluster a -b")) // b was never accepted
		c.quiet()
		f.wantSync("p1", rev, "SYNCED", rev)
	})
}

// In delta a rejected resource stays out while others change.
func TestDeltaSendsTheRestBesideAParkedResource(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1), cluster(t, "b", 1))
	c := f.connect(adsDelta)
	c.ask(fsm.TypeCluster)
	c.accept("cluster a b")
	f.replace(cluster(t, "a", 2), cluster(t, "b", 1))
	c.nack(c.want("cluster a"), "no")
	two := f.replace(cluster(t, "a", 2), cluster(t, "b", 2))
	c.accept("cluster b")
	f.wantSync("p1", two, "REJECTED", two-2)
	eventually(t, "the state knows", func() bool { return len(f.proxy("p1").GetRejections()) == 1 })
	c.quiet()
	rev := f.replace(cluster(t, "a", 3), cluster(t, "b", 2))
	c.accept("cluster a")
	f.wantSync("p1", rev, "SYNCED", rev)
	eventually(t, "the state knows", func() bool { return len(f.proxy("p1").GetRejections()) == 0 })
	// Asking for a rejected resource by name is asking for another attempt.
	f.replace(cluster(t, "a", 4), cluster(t, "b", 2))
	c.nack(c.want("cluster a"), "no")
	c.quiet()
	c.ask(fsm.TypeCluster, "a")
	c.accept("cluster a")
}

// The state of the world must repeat what was rejected beside what changed.
func TestStateRepeatsARejectedResource(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1), cluster(t, "b", 1))
	c := f.connect(adsState)
	c.ask(fsm.TypeCluster)
	c.accept("cluster a b")
	f.replace(cluster(t, "a", 2), cluster(t, "b", 1))
	c.nack(c.want("cluster a b"), "no")
	c.quiet()
	f.replace(cluster(t, "a", 2), cluster(t, "b", 2))
	c.nack(c.want("cluster a b"), "still no")
	c.quiet()
	// Types that need not be whole do not repeat it.
	f.endpoints("a", 1)
	f.endpoints("b", 1)
	c.ask(fsm.TypeEndpoints, "a", "b")
	c.accept("endpoints a b")
	f.endpoints("a", 2)
	c.nack(c.want("endpoints a"), "no", "a", "b")
	f.endpoints("b", 2)
	c.ack(c.want("endpoints b"), "a", "b")
	c.quiet()
	f.endpoints("a", 3)
	c.ack(c.want("endpoints a"), "a", "b")
	c.quiet()
}

func TestRejectedFirstResponse(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		f.replace(cluster(t, "a", 1), listener(t, "l", 80), route(t, "r", "a"))
		c := f.connect(method)
		c.ask(fsm.TypeCluster)
		c.nack(c.want("cluster a"), "no")
		c.quiet()
		// The rest gets through.
		c.ask(fsm.TypeListener)
		c.accept("listener l")
		c.ask(fsm.TypeRoute, "r")
		c.accept("route r")
		// A new stream gets one fresh attempt.
		again := f.connect(method)
		c.close()
		again.ask(fsm.TypeCluster)
		again.accept("cluster a")
		eventually(t, "the state knows", func() bool {
			p := f.proxy("p1")
			return len(p.GetRejections()) == 0 && len(p.GetStreams()) == 1
		})
	})
}

// While the proxy serves its last good routes, the clusters that those need
// stay.
func TestRejectedRoutesKeepTheirClusters(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		f.replace(cluster(t, "a", 1), listener(t, "l", 80), route(t, "r", "a"))
		c := f.connect(method)
		c.subscribeAll([]string{"a"}, []string{"r"})
		f.replace(cluster(t, "b", 1), listener(t, "l", 80), route(t, "r", "bad"))
		c.accept(c.pick("cluster a b", "cluster b"))
		c.nack(c.want("route r"), "no", "r")
		c.quiet()
		rev := f.replace(cluster(t, "b", 1), listener(t, "l", 80), route(t, "r", "b"))
		c.accept("route r")
		c.accept(c.pick("cluster b", "cluster -a"))
		f.wantSync("p1", rev, "SYNCED", rev)
	})
}

func TestNonceOfAnotherStreamIsNoAnswer(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		f.replace(cluster(t, "a", 1))
		c, d := f.connect(method), f.connectAs(method, node("p2", "web", ""))
		c.ask(fsm.TypeCluster)
		r := c.want("cluster a")
		d.ask(fsm.TypeCluster)
		other := d.want("cluster a")
		if r.nonce == other.nonce {
			t.Fatal("two streams with one nonce")
		}
		c.nack(other, "not mine")
		c.ack(other)
		c.quiet()
		f.wantSync("p1", 0, "PENDING", 0)
		c.ack(r)
		f.wantSync("p1", 0, "SYNCED", 1)
	})
}
