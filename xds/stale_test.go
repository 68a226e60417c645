package xds

import (
	"context"
	"testing"

	"github.com/org/envoy-control-plane/fsm"
)

// restarted is a new server that has nothing but a state which may be stale,
// and nobody to propose to.
func restarted(t *testing.T, st *fsm.State) *fixture {
	t.Helper()
	f := newFixture(t)
	f.become(st, false)
	f.server.ServeStale(st.Index())
	return f
}

// become makes a state the server's, with a majority or without one.
func (f *fixture) become(st *fsm.State, majority bool) {
	f.t.Helper()
	f.mu.Lock()
	f.state, f.down = st, !majority
	f.server.Applied(st, nil)
	f.mu.Unlock()
	check(f.t, f.server.Seen(f.t.Context(), st.Index()))
}

// catchUp gives the server the cluster's newest state and ends the staleness.
func (f *fixture) catchUp(st *fsm.State) {
	f.t.Helper()
	f.become(st, true)
	check(f.t, f.server.EndStale(context.Background(), st.Index()))
}

// A proxy that has nothing is configured from a stale state.
func TestStaleStateConfiguresANewProxy(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		f.replace(cluster(t, "a", 1), listener(t, "l", 80))
		old := f.current()
		f.replace(cluster(t, "b", 1), listener(t, "l", 81))

		s := restarted(t, old)
		c := s.connect(method)
		c.ask(fsm.TypeCluster)
		c.accept("cluster a")
		c.ask(fsm.TypeListener)
		c.accept("listener l")
		c.quiet()
		s.catchUp(f.current())
		c.accept(c.pick("cluster a b", "cluster b"))
		c.accept("listener l")
		c.accept(c.pick("cluster b", "cluster -a"))
		c.quiet()
	})
}

// What a proxy has from a newer state stays as it is: it is not replaced, not
// removed, and not sent without a body when it is asked for by name. The rest
// is brought up to date.
func TestStaleStateSparesWhatIsNewer(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "behind", 1), cluster(t, "gone", 1), cluster(t, "changed", 1), cluster(t, "same", 1))
	first := f.connect(adsDelta)
	first.ask(fsm.TypeCluster)
	have := first.accept("cluster behind changed gone same").versions
	f.replace(cluster(t, "behind", 2), cluster(t, "changed", 1), cluster(t, "same", 1), cluster(t, "more", 1))
	old := f.current()
	first.accept("cluster behind more")
	first.accept("cluster -gone")
	f.replace(cluster(t, "behind", 2), cluster(t, "changed", 2), cluster(t, "same", 1), cluster(t, "new", 1))
	r := first.accept("cluster changed new")
	have["changed"], have["new"] = r.versions["changed"], r.versions["new"]
	newest := f.current()

	s := restarted(t, old)
	c := s.connect(adsDelta)
	c.resume(fsm.TypeCluster, have)
	c.accept("cluster behind more")
	c.accept("cluster -gone")
	c.quiet()
	c.ask(fsm.TypeCluster, "new")
	c.quiet()
	s.catchUp(newest)
	c.accept("cluster -more")
	c.quiet()
}

// In the state of the world nobody knows whether what a proxy has is newer:
// it is sent what it does not have, and what is equal settles.
func TestStaleStateLeavesAnotherVersionAlone(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1), listener(t, "l", 80))
	f.endpoints("a", 1)
	old := f.current()
	f.replace(cluster(t, "b", 1), listener(t, "l", 80))
	c := f.connect(adsState)
	c.ask(fsm.TypeCluster)
	c.accept("cluster b")
	c.ask(fsm.TypeListener)
	c.accept("listener l")
	have := c.version

	s := restarted(t, old)
	c = s.connect(adsState)
	c.version = have
	c.ask(fsm.TypeCluster)
	c.quiet()
	c.ask(fsm.TypeListener)
	c.ask(fsm.TypeEndpoints, "a")
	c.accept("endpoints a")
	c.quiet()
	if w := s.streams("default", "web")[0].WaitingFor; w != "cluster: a majority of the control plane, what the proxy has may be newer" {
		t.Errorf("waits for %q", w)
	}
	f.replace(cluster(t, "b", 1), cluster(t, "c", 1), listener(t, "l", 80))
	s.catchUp(f.current())
	c.accept("cluster b c")
	c.quiet()
}

// Versions of another control plane may be newer than anything.
func TestStaleStateSparesForeignVersions(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1), cluster(t, "b", 1))
	s := restarted(t, f.current())
	c := s.connect(adsDelta)
	c.resume(fsm.TypeCluster, map[string]string{"a": "2026-11-26", "x": "v1"})
	c.accept("cluster b")
	c.quiet()
	s.catchUp(f.current())
	c.accept("cluster a")
	c.accept("cluster -x")
	c.quiet()
}

func TestVersionIndex(t *testing.T) {
	const foreign = ^uint64(0)
	for version, want := range map[string]uint64{
		fsm.Version(17, make([]byte, 16)): 17, "": foreign, "17": foreign, "v-0123456789abcdef": foreign, "17-0123": foreign,
	} {
		if got := versionIndex(version); got != want {
			t.Errorf("index of %q is %d, want %d", version, got, want)
		}
	}
}
