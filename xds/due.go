package xds

import (
	"time"

	"github.com/org/envoy-control-plane/fsm"
)

// take makes a frame the response under way of a type.
func (st *stream) take(t *subscribed, f *frame, now time.Time) *message {
	st.nonces++
	t.out, t.outNonce, t.outAt = f, nonce{st.number, st.nonces}, now
	t.prior, t.sent = t.sent, f.to
	t.sentRevision = max(f.to.revision(), f.to.base.revision())
	t.lastSent, t.sentAt = f.version, now
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

// takeMissed tells of names that lead nowhere, for which requests wait in the
// proxy, ahead of what waits at a gate: nothing depends on them.
func (st *stream) takeMissed(t *subscribed, missed []*item, now time.Time) *message {
	var had []*item
	if t.sent != nil {
		had = t.sent.items
	}
	to := newContent(t.kind, overlay(had, missed), true)
	to.private = true
	names := &subscription{}
	for _, i := range missed {
		names.names = append(names.names, i.name)
	}
	owed, refresh, forced := t.owed, t.refresh, t.forced
	m := st.take(t, st.server.encoder.frame(to, frameKey{st.protocol, t.sent, names, false, st.ttl}), now)
	t.owed, t.refresh = owed, refresh
	if forced != nil {
		t.force(&subscription{names: without(forced.names, names.names)})
	}
	return m
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
func (st *stream) due(t *subscribed, v *view, hold bool) *frame {
	to := st.current(t, v)
	if to == nil {
		return nil
	}
	if st.withheld(t, to) {
		t.candidate = candidate{}
		return nil
	}
	st.claimed(t, v, to)
	if to = st.unpark(t, to); to == nil {
		t.forget()
		return nil
	}
	if index := st.server.stale.Load(); index > 0 {
		to = to.sparingNewer(t.sent, index)
	} else {
		t.sent = t.sent.unclaimed(t.forced)
	}
	if hold {
		to = to.keeping(t.sent)
	}
	if t.sent == to && t.forced == nil && !t.refresh && !t.owed {
		t.forget()
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
		c.frame = st.server.encoder.frame(to, frameKey{st.protocol, from, t.forced, must, st.ttl})
	}
	if c.frame.body == nil {
		st.settle(t, to)
		return nil
	}
	return c.frame
}

// forget drops the candidate, if there is one.
func (t *subscribed) forget() {
	if t.candidate.frame != nil {
		t.candidate = candidate{}
	}
}

// claimed compares what a state-of-the-world stream began with to what it is
// to have.
func (st *stream) claimed(t *subscribed, v *view, to *content) {
	if t.claim == "" {
		return
	}
	if t.claim == to.digest() {
		st.settle(t, to)
		if t.kind.isEndpoints() {
			t.force(st.touched)
		}
	} else if r := st.scope.recall(t.kind); r != nil && st.ads() {
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
