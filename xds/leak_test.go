package xds

import (
	"runtime"
	"testing"

	"github.com/org/envoy-control-plane/fsm"
)

// A thousand streams that come and go leave nothing: no goroutine, subscription,
// group, scope, timer or report.
func TestStreamsLeaveNothing(t *testing.T) {
	f := newFixture(t)
	f.replace(living(cluster(t, "a", 1), testTTL), listener(t, "l", 80), route(t, "r", "a"))
	f.endpoints("a", 1)
	one := func(i int) {
		c := f.connectTTL([]string{adsState, adsDelta}[i%2])
		c.ask(fsm.TypeCluster)
		c.next()
		c.ask(fsm.TypeEndpoints, "a", sprintf("%d", i))
		if i%3 == 0 {
			c.ask(fsm.TypeRoute, sprintf("%d", i)) // waits at its gate, with a timer
		}
		c.close()
	}
	one(0)
	settled := func() bool { return f.server.Streams() == 0 && f.server.reporter.idle() }
	eventually(t, "the first is gone", settled)
	before := runtime.NumGoroutine()
	for i := range 1000 {
		one(i)
	}
	eventually(t, "all are gone", settled)
	eventually(t, "goroutines ended", func() bool { return runtime.NumGoroutine() <= before })
	f.server.hub.mu.Lock()
	scopes, left, groups, services := len(f.server.hub.scopes), len(f.server.hub.left), len(f.server.hub.groups), len(f.server.hub.byName)
	f.server.hub.mu.Unlock()
	f.server.beats.mu.Lock()
	beats := len(f.server.beats.of) + len(f.server.beats.due)
	f.server.beats.mu.Unlock()
	r := f.server.reporter
	r.mu.Lock()
	reports := len(r.live) + len(r.waiting) + len(r.flying) + len(r.queue)
	r.mu.Unlock()
	if n := f.server.subs.len() + scopes + groups + services + beats + reports; n != 0 || left != 1 {
		t.Fatalf("left: %d subscriptions, %d scopes, %d groups, %d services, %d heartbeats, %d reports, %d fleets remembered",
			f.server.subs.len(), scopes, groups, services, beats, reports, left)
	}
	if n := f.streamsOf("p1"); n != 0 {
		t.Fatalf("%d streams registered", n)
	}
	// What the fleet remembers by subscription is bounded too.
	v := f.server.hub.left[0].view.Load()
	for url, s := range v.sets {
		if len(s.contents) > 3*maxRemembered {
			t.Errorf("%d contents of %s", len(s.contents), url)
		}
	}
}
