package xds

import (
	"cmp"
	"context"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Single acknowledgements are not replicated. How long a revision takes to
// reach the proxies of a fleet is: as one small summary of each node, however
// many proxies it serves.

const (
	// maxSpreads bounds the revisions of a fleet that are followed at a time;
	// those that come while so many are under way are not.
	maxSpreads = 16
	// maxNamed bounds the proxies that a summary names, maxNamedBytes their ids.
	maxNamed      = 10
	maxNamedBytes = 4 << 10
	// A summary is made when all streams have done with the revision; else after
	// firstSummary, then after every nextSummary, at last after lastSummary.
	firstSummary = 10 * time.Second
	nextSummary  = time.Minute
	lastSummary  = 5 * time.Minute
	// lookAgain is how long after the commit streams are looked at that may
	// have come to have the revision without a message.
	lookAgain = 2 * time.Second
	// maxSpreadTime is the longest that is told from longer ones: of a node
	// that was cut off.
	maxSpreadTime = 24 * time.Hour
)

// spreads follow the newest revisions of a fleet to the streams that were
// there when they came.
type spreads struct {
	// newest is the number of the last one that was begun.
	newest atomic.Uint64

	mu   sync.Mutex
	open []*spread // in order
}

// spread is the way of one revision to the streams of this node.
type spread struct {
	number  uint64
	info    *fsmpb.Revision
	began   time.Time
	due     time.Time // of the next summary
	reached map[uint32]uint32
	slowest []*fsmpb.SlowProxy // fastest first
	// pending is what is left of expected.
	expected, pending, synced, rejected, departed uint32
}

// begin follows a revision to so many streams, unless too many are followed.
func (s *spreads) begin(info *fsmpb.Revision, streams int, now time.Time) (followed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.open); n > 0 && info.Revision <= s.open[n-1].info.Revision {
		s.open = nil // the fleet was made anew
	}
	if len(s.open) == maxSpreads {
		return false
	}
	number := s.newest.Load() + 1
	s.open = append(s.open, &spread{
		number: number, info: info, began: now, due: now.Add(firstSummary),
		reached: map[uint32]uint32{}, expected: uint32(streams), pending: uint32(streams),
	})
	s.newest.Store(number)
	return true
}

// settle notes what has become of a stream's revisions up to one, in all
// spreads that it has not done with.
func (s *spreads) settle(st *stream, through uint64, note func(*spread)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := st.spread.Load()
	for _, sp := range s.open {
		if sp.number <= done {
			continue
		}
		if sp.info.Revision > through {
			return
		}
		note(sp)
		sp.pending--
		st.spread.Store(sp.number)
	}
	st.spread.Store(s.newest.Load()) // those between are followed no longer
}

// arrived notes a stream that has a revision.
func (sp *spread) arrived(proxy string, now time.Time) {
	// The commit's time is the leader's. No clock makes it less than what has
	// passed here.
	took := max(now.Sub(sp.began), now.Sub(time.Unix(0, sp.info.At)))
	ms := uint32(min((took + time.Millisecond - 1).Milliseconds(), maxSpreadTime.Milliseconds()))
	sp.synced++
	sp.reached[within(ms)]++
	i, _ := slices.BinarySearchFunc(sp.slowest, ms, func(p *fsmpb.SlowProxy, ms uint32) int { return cmp.Compare(p.AfterMs, ms) })
	if i == 0 && len(sp.slowest) == maxNamed {
		return
	}
	sp.slowest = slices.Insert(sp.slowest, i, &fsmpb.SlowProxy{Proxy: proxy, AfterMs: ms})
	if len(sp.slowest) > maxNamed {
		sp.slowest = slices.Delete(sp.slowest, 0, 1)
	}
}

// within returns the upper bound of a time's bucket: sixteen to each doubling.
func within(ms uint32) uint32 {
	if ms < 32 {
		return ms
	}
	shift := bits.Len32(ms) - 5
	return (ms>>shift+1)<<shift - 1
}

// follow notes when the stream has come to have, or to reject, the newest
// revisions; st.mu is held.
func (st *stream) follow(now time.Time) {
	s := &st.scope.spreads
	if st.spread.Load() == s.newest.Load() {
		return
	}
	has := st.revision(now)
	if has > 0 {
		s.settle(st, has, func(sp *spread) { sp.arrived(st.id.Proxy, now) })
	}
	if v := st.scope.view.Load(); v != nil && st.rejects() {
		s.settle(st, v.revision, func(sp *spread) { sp.rejected++ })
	}
}

// rejects reports whether the proxy rejected something of the fleet's, and
// nothing is under way that might mend it; st.mu is held.
func (st *stream) rejects() bool {
	parked := false
	for _, t := range st.types {
		if t.out != nil {
			return false
		}
		parked = parked || !t.kind.live && t.parked != nil && t.rejected != nil
	}
	return parked
}

// followRevisions begins to follow the revisions between two views of a fleet,
// before anybody sees the second; h.mu is held.
func (h *hub) followRevisions(s *scope, old *view, r *fsm.Revision, now time.Time) {
	streams := len(s.roster.streams)
	if streams == 0 || h.state.FeatureLevel() < fsm.LevelConvergence || !h.state.Archive().GetEnabled() {
		return
	}
	first := r.Info.GetRevision()
	if old != nil && old.revision < first {
		first = max(old.revision+1, first-min(first-1, maxSpreads-1))
	}
	for n := first; n <= r.Info.GetRevision(); n++ {
		between, ok := h.state.Revision(s.key.tenant, s.key.fleet, n)
		if !ok {
			continue
		}
		if s.spreads.begin(between.Info, streams, now) {
			h.following[s] = struct{}{}
		} else {
			h.unfollowed()
		}
	}
}

// followed returns the fleets with revisions under way.
func (h *hub) followed() []*scope {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]*scope, 0, len(h.following))
	for s := range h.following {
		if s.spreads.idle() {
			delete(h.following, s)
			continue
		}
		out = append(out, s)
	}
	return out
}

func (s *spreads) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open) == 0
}

// followSpreads has summaries reported until the context ends.
func (s *Server) followSpreads(ctx context.Context) {
	tick := time.NewTicker(s.config.SummaryInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for _, sc := range s.hub.followed() {
				s.summarize(sc, now)
			}
		}
	}
}

// summarize reports the summaries of a fleet that are due.
func (s *Server) summarize(sc *scope, now time.Time) {
	streams := s.hub.streams(sc.key.tenant, sc.key.fleet)
	if sc.spreads.older(now.Add(-lookAgain)) {
		for _, st := range streams {
			st.mu.Lock()
			st.follow(now)
			st.mu.Unlock()
		}
	}
	s.reporter.converged(sc.spreads.summaries(now, streams))
}

// older reports whether one that is under way began before a time.
func (s *spreads) older(than time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.open, func(sp *spread) bool { return sp.pending > 0 && sp.began.Before(than) })
}

// summaries returns those that are due, and forgets what is over.
func (s *spreads) summaries(now time.Time, streams []*stream) []*fsmpb.Convergence {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*fsmpb.Convergence
	s.open = slices.DeleteFunc(s.open, func(sp *spread) bool {
		over := sp.pending == 0 || now.Sub(sp.began) >= lastSummary
		if over || !now.Before(sp.due) {
			sp.due = now.Add(nextSummary)
			out = append(out, sp.summary(streams))
		}
		return over
	})
	return out
}

// summary says how far the spread is. The streams are the fleet's.
func (sp *spread) summary(streams []*stream) *fsmpb.Convergence {
	c := &fsmpb.Convergence{
		Tenant: sp.info.Tenant, Fleet: sp.info.Fleet, Revision: sp.info.Revision, RevisionIndex: sp.info.Index, CommittedAt: sp.info.At,
		Expected: sp.expected, Synced: sp.synced, Rejected: sp.rejected, Departed: sp.departed,
	}
	for ms, n := range sp.reached {
		c.Reached = append(c.Reached, &fsmpb.Reached{WithinMs: ms, Streams: n})
	}
	slices.SortFunc(c.Reached, func(a, b *fsmpb.Reached) int { return cmp.Compare(a.WithinMs, b.WithinMs) })
	size := 0
	for i, p := range slices.Backward(sp.slowest) {
		// The slowest is the one that counts.
		if size += len(p.Proxy); size <= maxNamedBytes || i == len(sp.slowest)-1 {
			c.Slowest = append(c.Slowest, p)
		}
	}
	for _, st := range streams {
		if sp.pending == 0 || len(c.Waiting) == maxNamed || size > maxNamedBytes {
			break
		}
		if st.spread.Load() < sp.number {
			c.Waiting, size = append(c.Waiting, st.id.Proxy), size+len(st.id.Proxy)
		}
	}
	return c
}
