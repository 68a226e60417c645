package xds

import (
	"context"
	"testing"

	"github.com/org/envoy-control-plane/fsm"
)

// New streams wait for their turn without a record, in the order in which they
// came; those that are there already go on.
func TestNewStreamsWaitToBeAdmitted(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t, func(c *Config) { c.Admitted = 1 })
		f.replace(cluster(t, "a", 1))
		before := f.connectAs(method, node("before", "web", ""))
		before.ask(fsm.TypeCluster)
		before.accept("cluster a")

		leave, err := f.server.admission.enter(context.Background())
		check(t, err)
		waiting := func(n int) {
			t.Helper()
			eventually(t, "they wait", func() bool { return f.metric("ecp_xds_streams_waiting") == float64(n) })
		}
		var late []*client
		for i := range 3 {
			c := f.connectAs(method, node(sprintf("late%d", i), "web", ""))
			c.ask(fsm.TypeCluster)
			late = append(late, c)
			waiting(i + 1)
		}
		if n := f.server.Streams(); n != 1 {
			t.Fatalf("%d streams have records", n)
		}
		f.replace(cluster(t, "a", 2))
		before.accept("cluster a")

		// One that goes away while it waits takes nobody's turn.
		late[1].cancel()
		waiting(2)
		leave()
		leave()
		late[0].accept("cluster a")
		late[2].accept("cluster a")
		waiting(0)
		eventually(t, "all but one are there", func() bool { return f.server.Streams() == 3 })
		if !f.server.admission.slots.TryAcquire(1) || f.server.admission.slots.TryAcquire(1) {
			t.Fatal("not all turns were given back, or more")
		}
	})
}

// A proxy that does not read its first answer, or sends no request, has nobody
// wait.
func TestTurnsDoNotDependOnProxies(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t, func(c *Config) { c.Admitted = 1 })
		f.replace(cluster(t, "a", 1))
		f.connectAs(method, node("mute", "web", "")) // says nothing
		waits := f.connectAs(method, node("p1", "none", ""))
		waits.ask(fsm.TypeCluster) // has no answer to get
		refused := f.connectAs(method, node("", "web", ""))
		refused.ask(fsm.TypeCluster)
		if refused.end() == nil {
			t.Fatal("taken in")
		}
		c := f.connectAs(method, node("p2", "web", ""))
		c.ask(fsm.TypeCluster)
		c.accept("cluster a")
	})
}
