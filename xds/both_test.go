package xds

import (
	"testing"

	"github.com/org/envoy-control-plane/fsm"
)

// both runs a test over an aggregated stream of each protocol.
func both(t *testing.T, test func(t *testing.T, method string)) {
	t.Run("sotw", func(t *testing.T) { test(t, adsState) })
	t.Run("delta", func(t *testing.T) { test(t, adsDelta) })
}

func TestConfiguresAProxy(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		f.replace(cluster(t, "a", 1), cluster(t, "b", 1), listener(t, "l", 80), route(t, "r", "a"))
		f.endpoints("a", 1)
		f.endpoints("b", 2)
		c := f.connect(method)
		c.ask(fsm.TypeCluster)
		r := c.accept("cluster a b")
		if got := r.bodies["a"]; got == nil {
			t.Fatal("no body")
		}
		c.ask(fsm.TypeEndpoints, "a", "b")
		c.accept("endpoints a b")
		c.ask(fsm.TypeListener)
		c.accept("listener l")
		c.ask(fsm.TypeRoute, "r")
		c.accept("route r")
		c.quiet()

		f.endpoints("a", 3)
		c.ack(c.want("endpoints a"), "a", "b")
		f.replace(cluster(t, "a", 1), cluster(t, "b", 1), listener(t, "l", 80), route(t, "r", "b"))
		c.accept("route r")
		c.quiet()
	})
}
