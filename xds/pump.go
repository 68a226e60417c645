package xds

import (
	"strings"
	"time"

	"github.com/org/envoy-control-plane/fsm"
)

// inlineBytes is how much may be unacknowledged on a stream for a send not to
// block: gRPC gives each stream a write quota of 64 KiB, and what has been
// acknowledged has left it.
const inlineBytes = 48 << 10

// pump sends whatever the stream is due. One goroutine at a time does it; who
// comes meanwhile asks that one to look again. A caller that must not wait
// hands over to a goroutine of its own where sending might.
func (st *stream) pump(mayBlock bool) {
	st.mu.Lock()
	if st.sending {
		st.again = true
		st.mu.Unlock()
		return
	}
	st.sending = true
	st.flush(mayBlock)
}

// flush sends until nothing is due; st.mu and the right to send are held, and
// given back.
func (st *stream) flush(mayBlock bool) {
	for {
		m := st.next(time.Now())
		if m == nil {
			if st.again && !st.closed {
				st.again = false
				continue
			}
			st.sending = false
			st.mu.Unlock()
			return
		}
		quiet := st.unacked < inlineBytes
		st.unacked += len(m.frame.body)
		if !mayBlock && !quiet {
			go st.deliver(m)
			st.mu.Unlock()
			return
		}
		st.mu.Unlock()
		err := st.rpc.SendMsg(m)
		st.mu.Lock()
		if err != nil {
			st.giveUp()
			return
		}
	}
}

// deliver sends a message that may have to wait for the proxy to read, and
// whatever is due after it.
func (st *stream) deliver(m *message) {
	err := st.rpc.SendMsg(m)
	st.mu.Lock()
	if err != nil {
		st.giveUp()
		return
	}
	st.flush(true)
}

// giveUp leaves a broken stream to its reader, which learns of it by itself;
// st.mu is held and given back.
func (st *stream) giveUp() {
	st.closed, st.sending = true, false
	st.mu.Unlock()
}

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
	g := gates{stream: st, now: now, timeout: st.server.config.GateTimeout}
	m := g.turn()
	if m == nil {
		st.wakeAt(now, g.wake)
	}
	return m
}

// gates is one turn's look at a stream.
type gates struct {
	stream  *stream
	now     time.Time
	timeout time.Duration
	// wake is when a gate that is shut opens by itself; zero for none.
	wake time.Time
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
	return t.out == nil && t.lastSent == "" && t.sent != nil
}

// offer returns the response that a type is due, if it is, the gate is open
// and none is under way. With hold, what goes stays for now.
func (g *gates) offer(t *subscribed, hold, open bool) *message {
	if t == nil || t.out != nil {
		return nil
	}
	st := g.stream
	f := st.due(t, hold)
	if f == nil || !open {
		return nil
	}
	return st.take(t, f, g.now)
}

// take makes a frame the response under way of a type.
func (st *stream) take(t *subscribed, f *frame, now time.Time) *message {
	st.nonces++
	t.out, t.outNonce, t.outAt = f, nonce{st.number, st.nonces}, now
	t.prior, t.sent = t.sent, f.to
	t.sentRevision = max(f.to.revision(), f.to.base.revision())
	t.lastSent, t.sentAt = f.version(), now
	t.owed, t.refresh = false, false
	t.candidate = candidate{}
	t.forced = nil
	t.kind.metrics.pushes.Inc()
	t.kind.metrics.pushBytes.Add(float64(len(f.body)))
	if r := st.scope.recall(t.kind); r != nil && st.protocol == stateOfTheWorld && t.sub.wildcard && !f.to.private {
		r.remember(f.to)
	}
	if f.services != nil && st.ads() {
		st.resend(f.services)
	}
	return &message{frame: f, nonce: t.outNonce}
}

// resend forces the endpoints of clusters that were just sent: Envoy waits
// for them again, whether they changed or not. They are remembered for when it
// has yet to ask.
func (st *stream) resend(services *subscription) {
	if t := st.find(fsm.TypeEndpoints); t == nil || t.sent == nil {
		st.touched = services.with(st.touched)
	} else {
		t.force(services)
	}
}

// due returns the frame that would bring a type up to date, nil when it is.
// Where nothing need be said, the records move on in silence.
func (st *stream) due(t *subscribed, hold bool) *frame {
	to := st.current(t)
	if to == nil {
		return nil
	}
	st.claimed(t, to)
	if to = st.unpark(t, to); to == nil {
		t.candidate = candidate{}
		return nil
	}
	if hold {
		to = to.keeping(t.sent)
	}
	if t.sent == to && t.forced == nil && !t.refresh && !t.owed {
		t.candidate = candidate{}
		return nil
	}
	from := t.sent
	if t.refresh {
		from = nil
	}
	c := &t.candidate
	must := t.owed || t.refresh && t.kind.full
	if c.frame == nil || c.from != from || c.to != to || c.forced != t.forced || c.must != must {
		*c = candidate{from, to, t.forced, must, nil}
		c.frame = st.server.encoder.frame(st.protocol, from, to, t.forced, must)
	}
	if c.frame.body == nil {
		st.settle(t, to)
		return nil
	}
	return c.frame
}

// claimed compares what a state-of-the-world stream began with to what it is
// to have.
func (st *stream) claimed(t *subscribed, to *content) {
	if t.claim == "" {
		return
	}
	if t.claim == to.digest() {
		st.settle(t, to)
		if t.kind.isEndpoints() {
			t.force(st.touched)
		}
	} else if r := st.scope.recall(t.kind); r != nil && st.ads() {
		v := st.scope.view.Load()
		t.sent = r.find(t.kind, t.claim, v, func() []*fsm.Revision { return st.server.hub.past(st.scope.key, v.revision) })
	}
	t.claim = ""
}

// settle notes that the proxy has a content without being told.
func (st *stream) settle(t *subscribed, to *content) {
	t.sent = to
	t.sentRevision = max(t.sentRevision, to.revision())
	t.owed, t.refresh = false, false
	t.candidate = candidate{}
	t.forced = nil
	st.accept(t, to)
}

// unpark returns what may be sent of a content in view of what the proxy has
// rejected: nil for nothing.
func (st *stream) unpark(t *subscribed, to *content) *content {
	if t.parked == nil {
		return to
	}
	if t.parkedAt == to {
		return t.parkedTo
	}
	f := t.parked
	if f.protocol == stateOfTheWorld && t.kind.full {
		if to.digest() == f.to.base.digest() {
			t.parkedAt, t.parkedTo = to, nil
			return nil
		}
		t.parked = nil
		return to
	}
	if f.diff.changedIn(to) {
		t.parked = nil
		return to
	}
	t.parkedAt, t.parkedTo = to, sparing(to, t.sent, f)
	return t.parkedTo
}

// sparing returns a content in which the names of a rejected frame stay as
// the proxy has them.
func sparing(to, sent *content, f *frame) *content {
	var over []*item
	for _, name := range sortedSet(f.names()) {
		if i := sent.find(name); i != nil {
			over = append(over, i)
		}
	}
	c := newContent(to.kind, overlay(to.items, over), to.whole)
	c.base, c.private = to, true
	return c
}

// wakeAt makes the stream look again at a time; zero: not by itself.
func (st *stream) wakeAt(now, at time.Time) {
	if at.IsZero() {
		return
	}
	d := max(at.Sub(now), time.Millisecond)
	if st.timer == nil {
		st.timer = time.AfterFunc(d, func() { st.pump(true) })
		return
	}
	st.timer.Reset(d)
}

// waitingFor says in words what the stream waits for; empty when it waits for
// nothing. st.mu is held.
func (st *stream) waitingFor(now time.Time) string {
	var waits []string
	if st.scope.view.Load() == nil {
		waits = append(waits, "fleet: its first revision")
	}
	for _, t := range st.types {
		switch {
		case t.out != nil && now.Sub(t.outAt) >= st.server.config.GateTimeout && t.kind.role != roleFree:
			waits = append(waits, t.kind.name+": acknowledgement (its gate has opened by timeout)")
		case t.out != nil:
			waits = append(waits, t.kind.name+": acknowledgement")
		case t.parked != nil:
			waits = append(waits, t.kind.name+": other content, this one was rejected")
		case t.candidate.frame != nil:
			waits = append(waits, t.kind.name+": to be sent after what comes before it")
		case t.sent != nil && t.sent.base != t.sent:
			waits = append(waits, t.kind.name+": removals")
		}
	}
	return strings.Join(waits, "; ")
}
