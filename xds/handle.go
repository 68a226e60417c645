package xds

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// handle takes in one request. What the stream is due afterwards is up to
// pump. An error ends the stream.
func (st *stream) handle(r *request, now time.Time) error {
	if r.tooMany {
		return status.Errorf(codes.ResourceExhausted,
			"a request names at most %d resources; split the fleet or raise the limit", r.limit)
	}
	t := st.find(r.typeURL) // only the reader adds types
	if t == nil {
		k, err := st.kindOf(r)
		if err != nil {
			return err
		}
		t = st.find(k.url) // a single service's requests need not name it
		if t == nil {
			return st.handleFirst(k, r)
		}
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	answered := st.answer(t, r, now)
	if st.protocol == delta {
		return st.handleDelta(t, r)
	}
	return st.handleState(t, r, answered)
}

// handleFirst takes in the first request of a type.
func (st *stream) handleFirst(k *kind, r *request) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	t, err := st.add(k)
	if err != nil {
		return err
	}
	t.list, t.implicit = r.list, r.sub == nil && len(r.names)+len(r.subscribe)+len(r.unsubscribe) == 0
	if st.protocol == delta {
		st.subscribe(t, st.asked(r, r.subscribe, t.implicit))
		st.begin(t, r.initial)
	} else {
		st.subscribe(t, st.asked(r, r.names, t.implicit))
		t.claim, t.resumed, t.owed = r.version, r.version != "", t.kind.full
	}
	return st.tooLarge()
}

// tooLarge returns an error when the stream subscribes to too much.
func (st *stream) tooLarge() error {
	if limit := st.server.config.MaxRecvMsgSize; st.nameBytes > limit {
		return status.Errorf(codes.ResourceExhausted, "the names that a stream subscribes to have at most %d bytes", limit)
	}
	return nil
}

// maxTypeURL bounds what a client can make the server remember of a type.
const maxTypeURL = 512

func (st *stream) kindOf(r *request) (*kind, error) {
	if st.only == nil {
		if r.typeURL == "" {
			return nil, status.Error(codes.InvalidArgument, "an aggregated request needs a type_url")
		}
		if len(r.typeURL) > maxTypeURL {
			return nil, status.Errorf(codes.InvalidArgument, "a type_url has at most %d bytes", maxTypeURL)
		}
		return st.server.kinds.of(r.typeURL), nil
	}
	if r.typeURL != "" && r.typeURL != st.only.url {
		return nil, status.Errorf(codes.InvalidArgument, "this service serves %s, not %s", st.only.url, r.typeURL)
	}
	return st.only, nil
}

// asked returns what a request subscribes to, interned.
func (st *stream) asked(r *request, names []string, implicit bool) *subscription {
	if s := r.sub; s != nil {
		r.sub = nil
		return s
	}
	names, star := splitStar(names)
	return st.server.subs.intern(star || implicit, names)
}

// handleState takes in a state-of-the-world request: it names everything
// that the stream wants.
func (st *stream) handleState(t *subscribed, r *request, answered bool) error {
	if !r.repeats {
		st.relist(t, r)
	}
	// The proxy repeats an accepted response's nonce: it asks again, which
	// Envoy does when a warming cluster needs its endpoints.
	if !answered && !t.lastNack && t.lastNonce.is(r.nonce) {
		t.refresh = true
	}
	return st.tooLarge()
}

// relist makes the names of a request the subscription.
func (st *stream) relist(t *subscribed, r *request) {
	t.list = r.list
	t.implicit = t.implicit && r.sub == nil && len(r.names) == 0 // a list that has been given once counts from then on
	old := t.sub
	st.subscribe(t, st.asked(r, r.names, t.implicit))
	if old != t.sub {
		st.forceAsked(t, without(t.sub.names, old.names), nil)
		t.owed = t.owed || t.kind.full && t.sub.wildcard && !old.wildcard
	}
}

// handleDelta takes in a delta request: it says what is wanted from now on
// and what no longer.
func (st *stream) handleDelta(t *subscribed, r *request) error {
	if len(r.subscribe)+len(r.unsubscribe) == 0 {
		return nil
	}
	plus, plusStar := splitStar(r.subscribe)
	minus, minusStar := splitStar(r.unsubscribe)
	old := t.sub
	wildcard := old.wildcard && !minusStar || plusStar
	names := merge(old.names, plus, minus)
	if len(names) > st.server.config.MaxNames {
		return status.Errorf(codes.ResourceExhausted, "a stream names at most %d resources of a type", st.server.config.MaxNames)
	}
	st.subscribe(t, st.server.subs.intern(wildcard, names))
	st.forceAsked(t, plus, minus)
	if plusStar && !old.wildcard {
		t.forceBeyond(old)
	}
	t.owed = t.owed || plusStar
	return st.tooLarge()
}

// splitStar returns the names other than the wildcard's, as a sorted set, and
// whether it was among them.
func splitStar(names []string) ([]string, bool) {
	names = sortedSet(names)
	i, found := slices.BinarySearch(names, "*")
	if found {
		names = slices.Delete(names, i, i+1)
	}
	return names, found
}

// forceAsked sees to it that a name that was just subscribed to is answered
// even if the proxy had it, and that one which is unsubscribed from but stays
// covered by a wildcard is told again. Asking for what it rejected is asking
// for another attempt.
func (st *stream) forceAsked(t *subscribed, plus, minus []string) {
	var again []string
	for _, name := range plus {
		if t.kind.onDemand || t.sent.find(name) != nil {
			again = append(again, name)
		}
		if t.parked != nil && t.parked.speaksOf(name) {
			t.parked = nil
		}
	}
	if t.sub.wildcard {
		again = append(again, without(minus, plus)...)
	}
	if len(again) > 0 {
		t.force(&subscription{names: sortedSet(again)})
	}
}

// forceBeyond sees to it that a new wildcard sends what the proxy has forgotten
// when it gave up the one before, while a response was still under way.
func (t *subscribed) forceBeyond(old *subscription) {
	forgotten := &subscription{}
	if t.sent != nil {
		for _, i := range t.sent.items {
			if !old.has(i.name) {
				forgotten.names = append(forgotten.names, i.name)
			}
		}
	}
	if len(forgotten.names) > 0 {
		t.force(forgotten)
	}
}

// begin starts a type on a delta stream with what the proxy says it has.
func (st *stream) begin(t *subscribed, initial []named) {
	if len(initial) == 0 {
		t.owed = t.sub.wildcard
		return
	}
	slices.SortFunc(initial, func(a, b named) int { return strings.Compare(a.name, b.name) })
	items := make([]*item, 0, len(initial))
	for i, n := range initial {
		if i > 0 && n.name == initial[i-1].name || !t.sub.wildcard && !t.kind.onDemand && !t.sub.has(n.name) {
			continue
		}
		if t.kind.onDemand && n.version == "" {
			continue // told that it leads nowhere, and to be told again
		}
		items = append(items, &item{name: n.name, version: firstText(n.version), hash: versionHash(n.version), state: claimed})
	}
	t.sent = newContent(t.kind, items, t.sub.wildcard || t.kind.onDemand)
	t.sent.private, t.resumed = true, true
	if t.kind.isEndpoints() {
		t.force(st.touched)
	}
}

// answer takes in the ACK or NACK that a request is, if it is one: the nonce
// must be that of the response under way on this stream.
func (st *stream) answer(t *subscribed, r *request, now time.Time) bool {
	if t.out == nil || !t.outNonce.is(r.nonce) {
		return false
	}
	f, prior := t.out, t.prior
	st.unacked -= len(f.body)
	t.out, t.prior, t.lastNonce, t.lastNack = nil, nil, t.outNonce, r.rejected
	if f.beat {
		if r.rejected {
			st.beatRejected(t, f, r)
		} else {
			t.kind.metrics.acks.Inc()
		}
		return true
	}
	if r.rejected {
		st.nack(t, f, prior, r, now)
		return true
	}
	t.kind.metrics.acks.Inc()
	t.kind.metrics.pushToAck.Observe(now.Sub(t.outAt).Seconds())
	t.lastAcked, t.ackedAt = f.version, now
	if !t.resumed && (t.acked == nil || t.acked.ttl == 0) {
		t.beatAt = t.outAt.UnixNano()
	}
	st.accept(t, f.to)
	return true
}

// accept notes that the proxy has a content.
func (st *stream) accept(t *subscribed, c *content) {
	t.ackedRevision = max(t.ackedRevision, t.acked.revision(), c.revision())
	t.acked = c
	fresh := !t.attempted
	t.attempted = true
	if t.parked != nil {
		return // the rejected rest is still out
	}
	if t.rejected != nil {
		t.rejected = nil
		st.server.reporter.recovered(st, t.kind, c.revision())
	} else if fresh {
		st.server.reporter.recoverStale(st, t.kind, c.revision())
	}
}

// nack parks a rejected response.
func (st *stream) nack(t *subscribed, f *frame, prior *content, r *request, now time.Time) {
	t.kind.metrics.rejections.Inc()
	t.attempted = true
	if t.sent == f.to {
		t.sent = f.doubt(prior)
	}
	t.parked, t.parkedAt, t.parkedTo = f, nil, nil
	if f.to.guessed {
		t.sent, t.parked = nil, nil // what it rejects may be a guess: once more without
	}
	t.rejected = &rejection{version: f.version, detail: r.rejectText, at: now}
	if !st.server.reporter.rejected(st, t.kind, f, t.sentRevision, r.rejectText) {
		return // too many of them to be written down, in the log too
	}
	st.server.log.Warn("proxy rejected a response", "tenant", st.id.Tenant, "fleet", st.id.Fleet,
		"proxy", st.id.Proxy, "type", t.kind.name, "revision", t.sentRevision, "detail", r.rejectText)
}
