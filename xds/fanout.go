package xds

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// dirt is what has changed since the fan-out looked last. Applied writes it
// on the Raft goroutine and waits for nothing.
type dirt struct {
	mu     sync.Mutex
	state  *fsm.State
	all    bool
	fleets map[fleetKey]struct{}
	live   map[liveKey]struct{}
	signal chan struct{} // capacity 1
}

func newDirt() *dirt {
	return &dirt{
		fleets: map[fleetKey]struct{}{}, live: map[liveKey]struct{}{},
		signal: make(chan struct{}, 1),
	}
}

// Applied tells the server of a new state and of what changed; nil events
// mean that everything may have. It never blocks.
func (s *Server) Applied(st *fsm.State, events []*fsmpb.Event) {
	d := s.dirt
	d.mu.Lock()
	d.state = st
	if events == nil {
		d.all = true
	}
	for _, e := range events {
		d.note(e)
	}
	d.mu.Unlock()
	s.reporter.observe(st, events)
	select {
	case d.signal <- struct{}{}:
	default:
	}
}

func (d *dirt) note(e *fsmpb.Event) {
	switch data := e.Data.(type) {
	case *fsmpb.Event_RevisionCreated, *fsmpb.Event_FleetPut, *fsmpb.Event_FleetDeleted:
		d.fleets[fleetKey{e.Tenant, e.Fleet}] = struct{}{}
	case *fsmpb.Event_EndpointsPut:
		d.live[liveKey{fsm.TypeEndpoints, e.Tenant, data.EndpointsPut.Service}] = struct{}{}
	case *fsmpb.Event_EndpointsDeleted:
		d.live[liveKey{fsm.TypeEndpoints, e.Tenant, data.EndpointsDeleted.Service}] = struct{}{}
	case *fsmpb.Event_SecretPut:
		d.live[liveKey{fsm.TypeSecret, e.Tenant, data.SecretPut.Name}] = struct{}{}
	case *fsmpb.Event_SecretDeleted:
		d.live[liveKey{fsm.TypeSecret, e.Tenant, data.SecretDeleted.Name}] = struct{}{}
	}
}

// work is one helping of dirt.
type work struct {
	state  *fsm.State
	all    bool
	fleets map[fleetKey]struct{}
	live   map[liveKey]struct{}
}

func (d *dirt) take() work {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := work{d.state, d.all, d.fleets, d.live}
	d.all = false
	d.fleets, d.live = map[fleetKey]struct{}{}, map[liveKey]struct{}{}
	return w
}

// fanOut spreads changes until the context ends.
func (s *Server) fanOut(ctx context.Context) {
	var q queue
	for {
		if q.empty() {
			select {
			case <-ctx.Done():
				return
			case <-s.dirt.signal:
				s.takeIn(&q)
			}
		}
		for _, st := range q.next() {
			st.queued = false // before it looks
			st.pump(false)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.dirt.signal:
			s.takeIn(&q)
		default:
		}
	}
}

// takeIn brings views and groups up to the newest state, and queues the
// streams that are due.
func (s *Server) takeIn(q *queue) {
	w := s.dirt.take()
	if w.state == nil {
		return
	}
	due, untouched := s.hub.spread(w)
	q.add(due)
	now := time.Now()
	for _, st := range untouched {
		st.mu.Lock()
		st.follow(now)
		st.mu.Unlock()
	}
	if w.all {
		s.reporter.compare(w.state)
	}
	s.seen.set(w.state.Index())
}

// share is how many streams of a change are looked after before it is the
// next one's turn: about a millisecond's work.
const share = 128

// queue holds the streams that changes are due for, by change. Each has its
// turn, so that a change of a few streams does not wait for one of thousands. A
// stream stands in it once: it will look at the newest state.
type queue struct{ changes [][]*stream }

func (q *queue) empty() bool { return len(q.changes) == 0 }

func (q *queue) add(due []*stream) {
	due = slices.DeleteFunc(due, func(st *stream) bool {
		stands := st.queued
		st.queued = true
		return stands
	})
	if len(due) > 0 {
		q.changes = append(q.changes, due)
	}
}

// next takes some streams out of the change whose turn it is.
func (q *queue) next() []*stream {
	if q.empty() {
		return nil
	}
	due := q.changes[0]
	q.changes = q.changes[1:]
	if len(due) > share {
		q.changes = append(q.changes, due[share:])
		due = due[:share]
	}
	return due
}

// spread brings views and groups up to a state and returns the streams that
// have something to look at, some of them twice, and those that have a revision
// which is followed without a message.
func (h *hub) spread(w work) (due, untouched []*stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.advance(w.state, w.all)
	groups := h.dirtyGroups(w)
	for _, s := range h.dirtyScopes(w) {
		changed, first := h.renew(s, !w.all)
		if len(changed) > 0 {
			for g := range s.secrets {
				groups[g] = nil // it may name others now
			}
		}
		for _, st := range s.roster.streams {
			switch {
			case first || st.wants(changed):
				due = append(due, st)
			case st.spread.Load() != s.spreads.newest.Load():
				untouched = append(untouched, st)
			}
		}
	}
	for g, names := range groups {
		if h.renewGroup(g, names) {
			due = append(due, g.roster.streams...)
		}
	}
	return due, untouched
}

func (h *hub) dirtyScopes(w work) []*scope {
	if w.all {
		return slices.Collect(maps.Values(h.scopes))
	}
	var out []*scope
	for key := range w.fleets {
		if s, ok := h.scopes[key]; ok {
			out = append(out, s)
		}
	}
	return out
}

// dirtyGroups returns the groups that changes concern, with the names that
// changed; nil for all.
func (h *hub) dirtyGroups(w work) map[*group][]string {
	found := map[*group][]string{}
	if w.all {
		for _, g := range h.groups {
			found[g] = nil
		}
		return found
	}
	for key := range w.live {
		for _, k := range []liveKey{key, {key.url, key.tenant, ""}} {
			if n := h.byName[k]; n != nil {
				for g := range n.groups {
					found[g] = append(found[g], key.name)
				}
			}
		}
	}
	return found
}

// watermark is the newest index that views and groups have been brought up to.
type watermark struct {
	mu    sync.Mutex
	index uint64
	moved chan struct{}
}

func newWatermark() *watermark { return &watermark{moved: make(chan struct{})} }

func (m *watermark) set(index uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.index = index
	close(m.moved)
	m.moved = make(chan struct{})
}

// passed reports whether they have been brought up to an index.
func (m *watermark) passed(index uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.index >= index
}

// reach waits until views and groups have been brought up to an index.
func (m *watermark) reach(ctx context.Context, index uint64) error {
	for {
		m.mu.Lock()
		at, moved := m.index, m.moved
		m.mu.Unlock()
		if at >= index {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fsm.Refusal(fsm.CodeTimeout, "xds has index %d, not yet %d", at, index)
		}
	}
}
