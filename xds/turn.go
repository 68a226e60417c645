package xds

import "time"

// next picks the response that is due first and makes it the one under way
// of its type. The order is make before break:
//
//  1. clusters that are new or changed, with those that go still in place
//  2. endpoints and all else that never waits
//  3. listeners, when the proxy has accepted the clusters
//  4. routes, when it has accepted the listeners
//  5. listeners that go, 6. clusters that go
//
// Each wait ends after the gate's timeout. st.mu is held.
func (st *stream) next(now time.Time) *message {
	if st.closed {
		return nil
	}
	g := gates{stream: st, view: st.scope.view.Load(), now: now, timeout: st.server.config.GateTimeout}
	m := g.heartbeat() // first, so that a type that changes all the time has its own
	if m == nil {
		m = g.turn()
	}
	if m == nil {
		m = g.heartbeat() // of what the turn found the proxy to have
	}
	if m == nil {
		st.follow(now)
		st.wakeAt(now, g.wake)
		st.beatNext(g.beat)
	}
	return m
}

// gates is one turn's look at a stream.
type gates struct {
	stream *stream
	// view is the same for all types: a newer one that comes meanwhile must not
	// give the proxy routes before their clusters.
	view    *view
	now     time.Time
	timeout time.Duration
	// wake is when a gate that is shut opens by itself; zero for none.
	wake time.Time
	// beat is when the next heartbeat is due, in nanoseconds since the Unix
	// epoch; 0 for none.
	beat int64
}

func (g *gates) turn() *message {
	st := g.stream
	cl, li := st.role(roleCluster), st.role(roleListener)
	if m := g.offer(cl, st.ads(), true); m != nil {
		return m
	}
	clusters := g.busy(cl)
	if cl == nil {
		clusters = g.unasked()
	}
	for _, t := range st.types {
		if t.kind.role != roleFree {
			continue
		}
		if m := g.offer(t, false, true); m != nil {
			return m
		}
		if g.warming(t, cl) {
			t.refresh = true
			return g.offer(t, false, true)
		}
	}
	if m := g.offer(li, st.ads(), !clusters || li.fresh(cl)); m != nil {
		return m
	}
	listeners := g.busy(li) || clusters && g.held(li)
	routes := false
	for _, t := range st.types {
		if t.kind.role != roleRoute {
			continue
		}
		if m := g.offer(t, false, !clusters && !listeners || t.fresh(cl)); m != nil {
			return m
		}
		routes = routes || g.busy(t) || g.held(t)
	}
	if !st.ads() || clusters || listeners || routes || g.anyParked() || g.returning(cl) {
		return nil
	}
	if m := g.offer(li, false, true); m != nil {
		return m
	}
	return g.offer(cl, false, true)
}

// unasked reports whether the stream may still be about to ask for clusters:
// a warming Envoy whose stream was cut asks for them when they have warmed,
// and for its listeners and routes at once.
func (g *gates) unasked() bool {
	opens := g.stream.since.Add(g.timeout)
	if !g.stream.ads() || !g.now.Before(opens) {
		return false
	}
	if g.wake.IsZero() || opens.Before(g.wake) {
		g.wake = opens
	}
	return true
}

// returning reports whether the stream is that of a proxy that has just come
// back and may not yet have asked for all that it has: its routes, say, which
// need the clusters that would go.
func (g *gates) returning(clusters *subscribed) bool {
	st := g.stream
	over := st.since.Add(st.server.config.WarmingGrace)
	if clusters == nil || !clusters.resumed || !g.now.Before(over) ||
		st.role(roleListener) != nil && st.role(roleRoute) != nil {
		return false
	}
	if g.wake.IsZero() || over.Before(g.wake) {
		g.wake = over
	}
	return true
}

// fresh reports whether the proxy waits for its first content of a type while
// the stream does not ask for clusters: there is nothing yet to be broken,
// and it may learn its clusters by this.
func (t *subscribed) fresh(clusters *subscribed) bool {
	return t != nil && clusters == nil && !t.resumed
}

// held reports whether the last offer of a type was due and shut in.
func (g *gates) held(t *subscribed) bool {
	return t != nil && t.candidate.frame != nil && t.out == nil && t.candidate.frame.to != t.sent
}

// busy reports whether the type has a response under way that others wait
// for.
func (g *gates) busy(t *subscribed) bool {
	if t == nil || t.out == nil {
		return false
	}
	opens := t.outAt.Add(g.timeout)
	if !g.now.Before(opens) {
		return false
	}
	if g.wake.IsZero() || opens.Before(g.wake) {
		g.wake = opens
	}
	return true
}

// anyParked reports whether the proxy rejected something that the order of
// the change depends on: it then serves the last that it accepted, which may
// need what would be removed.
func (g *gates) anyParked() bool {
	for _, t := range g.stream.types {
		if t.kind.role != roleFree && t.parked != nil {
			return true
		}
	}
	return false
}

// warming reports whether the stream is that of a warming Envoy: the one
// before was cut, and this one asks for endpoints only. It needs them again,
// whatever versions it names.
func (g *gates) warming(t, clusters *subscribed) bool {
	st := g.stream
	if !t.kind.isEndpoints() || clusters != nil || !st.ads() || !t.silent() {
		return false
	}
	due := st.since.Add(st.server.config.WarmingGrace)
	if !g.now.Before(due) {
		return len(t.sent.items) > 0
	}
	if g.wake.IsZero() || due.Before(g.wake) {
		g.wake = due
	}
	return false
}

// silent reports whether the type was never answered because the proxy had
// everything.
func (t *subscribed) silent() bool {
	return t.out == nil && t.sentAt.IsZero() && t.sent != nil
}

// offer returns the response that a type is due, if it is, the gate is open
// and none is under way. With hold, what goes stays for now.
func (g *gates) offer(t *subscribed, hold, open bool) *message {
	if t == nil || t.out != nil {
		return nil
	}
	st := g.stream
	f := st.due(t, g.view, hold)
	switch {
	case f == nil:
		return nil
	case open:
		return st.take(t, f, g.now)
	case st.protocol == delta && len(f.diff.missed) > 0:
		return st.takeMissed(t, f.diff.missed, g.now)
	}
	return nil
}
