package xds

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Answer answers a question about the streams of this node.
func (s *Server) Answer(ctx context.Context, q *fsmpb.Query) (*fsmpb.Answer, error) {
	switch q := q.GetQuery().(type) {
	case *fsmpb.Query_Streams:
		return &fsmpb.Answer{Answer: &fsmpb.Answer_Streams{Streams: s.answerStreams(q.Streams)}}, nil
	case *fsmpb.Query_Fleet:
		if err := s.seen.reach(ctx, q.Fleet.GetMinIndex()); err != nil {
			return nil, err
		}
		return &fsmpb.Answer{Answer: &fsmpb.Answer_Fleet{Fleet: s.answerFleet(q.Fleet)}}, nil
	case *fsmpb.Query_Config:
		return &fsmpb.Answer{Answer: &fsmpb.Answer_Config{Config: s.answerConfig(q.Config)}}, nil
	case *fsmpb.Query_Retry:
		return &fsmpb.Answer{Answer: &fsmpb.Answer_Retry{Retry: s.retry(q.Retry)}}, nil
	}
	return nil, fsm.Refusal(fsm.CodeInvalid, "unknown query")
}

func (s *Server) answerStreams(q *fsmpb.StreamsQuery) *fsmpb.StreamsAnswer {
	wanted := map[string]struct{}{}
	for _, p := range q.GetProxies() {
		wanted[p] = struct{}{}
	}
	a := &fsmpb.StreamsAnswer{}
	now := time.Now()
	for _, st := range s.hub.streams(q.GetTenant(), q.GetFleet()) {
		if _, ok := wanted[st.id.Proxy]; ok || len(wanted) == 0 {
			a.Streams = append(a.Streams, st.report(now))
		}
	}
	slices.SortFunc(a.Streams, func(x, y *fsmpb.StreamReport) int {
		return cmp.Or(cmp.Compare(x.Proxy, y.Proxy), cmp.Compare(x.Number, y.Number))
	})
	return a
}

// report describes the stream as it is now.
func (st *stream) report(now time.Time) *fsmpb.StreamReport {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.reportLocked(now)
}

func (st *stream) reportLocked(now time.Time) *fsmpb.StreamReport {
	r := &fsmpb.StreamReport{
		Tenant: st.id.Tenant, Proxy: st.id.Proxy, Fleet: st.id.Fleet,
		NodeStart: st.server.config.NodeStart, Number: st.number,
		Peer: st.peer, Protocol: st.protocol.String(), Since: st.since.UnixNano(),
		Revision: st.revision(now), WaitingFor: st.waitingFor(now),
	}
	for _, t := range st.types {
		r.Types = append(r.Types, st.reportType(t))
	}
	return r
}

func (st *stream) reportType(t *subscribed) *fsmpb.TypeReport {
	r := &fsmpb.TypeReport{
		TypeUrl: t.kind.url, Wildcard: t.sub.wildcard, Names: uint32(len(t.sub.names)),
		Sent: t.lastSent, Acked: t.lastAcked, SentAt: unixNano(t.sentAt), AckedAt: unixNano(t.ackedAt),
		SentRevision: max(t.sentRevision, t.ackedRevision),
	}
	if !t.kind.live {
		r.AckedRevision = st.typeRevision(t)
		r.SentRevision = max(r.SentRevision, r.AckedRevision)
	}
	// A proxy that came with everything was sent nothing: what it has is what
	// it would have been sent.
	if t.lastSent == "" && t.acked != nil {
		r.Sent = st.versionOf(t.acked)
	}
	if t.lastAcked == "" && t.acked != nil {
		r.Acked = st.versionOf(t.acked)
	}
	if t.rejected != nil {
		r.RejectedVersion, r.RejectedDetail = t.rejected.version, t.rejected.detail
		r.RejectedAt = t.rejected.at.UnixNano()
	}
	return r
}

func (st *stream) versionOf(c *content) string {
	if st.protocol == stateOfTheWorld {
		return c.digest()
	}
	return newest(c.items)
}

func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// typeRevision returns the newest revision whose content of a type the proxy
// has accepted; st.mu is held.
func (st *stream) typeRevision(t *subscribed) uint64 {
	return max(t.ackedRevision, t.acked.revision())
}

// revision returns the newest revision that the stream is synced with: that
// of the type that is furthest behind, or the newest of all when no type that
// it subscribes to belongs to a revision. One that still asks for its types, or
// that has just ended, is synced with none. st.mu is held.
func (st *stream) revision(now time.Time) uint64 {
	v := st.scope.view.Load()
	if v == nil || len(st.types) == 0 || st.begins(v, now) {
		return 0
	}
	synced := v.revision
	for _, t := range st.types {
		if !t.kind.live {
			synced = min(synced, st.typeRevision(t))
		}
	}
	return synced
}

// begins reports whether the stream may still be asking for its types: an
// aggregated one that is young and has not asked for all that its fleet has.
// st.mu is held.
func (st *stream) begins(v *view, now time.Time) bool {
	if st.only != nil || now.Sub(st.since) >= st.server.config.WarmingGrace {
		return false
	}
	return slices.ContainsFunc(v.source.Types(), func(url string) bool { return st.find(url) == nil })
}

// answerFleet says how far each proxy with a stream here is with a revision:
// as far as its worst stream.
func (s *Server) answerFleet(q *fsmpb.FleetQuery) *fsmpb.FleetAnswer {
	worst := map[string]*fsmpb.ProxySync{}
	now := time.Now()
	for _, st := range s.hub.streams(q.GetTenant(), q.GetFleet()) {
		p := st.sync(q.GetRevision(), now)
		old := worst[p.Proxy]
		if old == nil {
			worst[p.Proxy] = p
			continue
		}
		lowest := min(old.Revision, p.Revision)
		if p.State > old.State {
			worst[p.Proxy] = p
		}
		worst[p.Proxy].Revision = lowest
	}
	a := &fsmpb.FleetAnswer{Proxies: slices.Collect(maps.Values(worst))}
	slices.SortFunc(a.Proxies, func(x, y *fsmpb.ProxySync) int { return cmp.Compare(x.Proxy, y.Proxy) })
	return a
}

// sync says how far the stream is with a revision, 0 for the newest.
func (st *stream) sync(revision uint64, now time.Time) *fsmpb.ProxySync {
	st.mu.Lock()
	defer st.mu.Unlock()
	p := &fsmpb.ProxySync{Proxy: st.id.Proxy, Revision: st.revision(now), State: fsmpb.ProxySync_SYNCED}
	v := st.scope.view.Load()
	if revision == 0 && v != nil {
		revision = v.revision
	}
	if v != nil && p.Revision >= revision {
		return p
	}
	p.State, p.WaitingFor = fsmpb.ProxySync_PENDING, st.waitingFor(now)
	for _, t := range st.types {
		if !t.kind.live && t.parked != nil && t.rejected != nil && st.typeRevision(t) < revision {
			p.State = fsmpb.ProxySync_REJECTED
			p.RejectedType, p.RejectedDetail = t.kind.url, t.rejected.detail
			break
		}
	}
	return p
}
