package xds

import (
	"cmp"
	"slices"
	"time"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// answerConfig says, resource by resource, what proxies should have and what
// they have.
func (s *Server) answerConfig(q *fsmpb.ConfigQuery) *fsmpb.ConfigAnswer {
	a := &fsmpb.ConfigAnswer{}
	left := q.GetLimit()
	now := time.Now()
	for _, st := range s.hub.proxies(q.GetTenant(), q.GetProxies()) {
		c := st.inspect(now)
		for _, t := range c.Types {
			if n := uint64(len(t.Resources)); q.GetLimit() > 0 && n > left {
				return &fsmpb.ConfigAnswer{Truncated: true}
			} else if q.GetLimit() > 0 {
				left -= n
			}
		}
		a.Streams = append(a.Streams, c)
	}
	slices.SortFunc(a.Streams, func(x, y *fsmpb.StreamConfig) int {
		return cmp.Or(cmp.Compare(x.Stream.Proxy, y.Stream.Proxy), cmp.Compare(x.Stream.Number, y.Stream.Number))
	})
	return a
}

// inspect describes the stream and every resource on it as they are now.
func (st *stream) inspect(now time.Time) *fsmpb.StreamConfig {
	st.mu.Lock()
	defer st.mu.Unlock()
	c := &fsmpb.StreamConfig{Stream: st.reportLocked(now)}
	for _, t := range st.types {
		tc := &fsmpb.TypeConfig{
			TypeUrl: t.kind.url, Wildcard: t.sub.wildcard, Resources: t.inspect(st.current(t, st.scope.view.Load())),
			SentAt: unixNano(t.sentAt), AckedAt: unixNano(t.ackedAt),
		}
		if t.rejected != nil {
			tc.RejectedDetail, tc.RejectedAt = t.rejected.detail, t.rejected.at.UnixNano()
		}
		c.Types = append(c.Types, tc)
	}
	return c
}

// inspect compares what the proxy should have, nil while that is not known,
// with what it has.
func (t *subscribed) inspect(should *content) []*fsmpb.ResourceConfig {
	if should == nil {
		should = newContent(t.kind, nil, false)
		for _, name := range t.sub.names {
			should.items = append(should.items, &item{name: name})
		}
	}
	var out []*fsmpb.ResourceConfig
	has := t.has()
	walk(has, should, func(had, want *item) {
		if want == nil && (!should.whole || !had.held()) {
			return // no longer asked for, or gone
		}
		out = append(out, t.compare(had, want))
	})
	return out
}

// has returns what the proxy has accepted: on this stream or, by its word,
// before it began.
func (t *subscribed) has() *content {
	switch {
	case t.acked != nil:
		return t.acked
	case t.out != nil && !t.out.beat:
		return t.prior
	default:
		return t.sent
	}
}

// compare describes one resource. had and want are what the proxy has and
// should have of a name, nil for nothing.
func (t *subscribed) compare(had, want *item) *fsmpb.ResourceConfig {
	r := &fsmpb.ResourceConfig{Status: fsmpb.ResourceConfig_NOT_SENT}
	wanted := want != nil && want.state == present
	holds := had != nil && had.held()
	if want != nil {
		r.Name, r.Should = want.name, want.version
	}
	if holds {
		r.Name, r.Acked = had.name, had.version
	}
	sent := t.sent.find(r.Name)
	if sent != nil && sent.state == present {
		r.Sent = sent.version
	}
	waiting := t.out != nil && !t.out.beat && t.out.speaksOf(r.Name)
	rejected := !waiting && t.parked != nil && t.parked.speaksOf(r.Name)
	if rejected {
		r.Rejected, r.Sent = t.parked.to.versionOf(r.Name), t.parked.to.versionOf(r.Name)
	}
	switch {
	case rejected:
		r.Status = fsmpb.ResourceConfig_REJECTED
	case waiting && (wanted && sent != nil && sent.sameAs(want) || !wanted && (sent == nil || sent.state == absent)):
		r.Status = fsmpb.ResourceConfig_PENDING
	case waiting || sent != nil && sent.state == doubtful:
		// What it will have is open until it is sent what it should have.
	case wanted && holds && had.sameAs(want):
		r.Status = fsmpb.ResourceConfig_SYNCED
	case want != nil && want.state == absent && !holds:
		r.Status = fsmpb.ResourceConfig_ABSENT
	}
	return r
}
