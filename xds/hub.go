package xds

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/org/envoy-control-plane/fsm"
)

// fleetKey names a fleet of a tenant.
type fleetKey struct{ tenant, fleet string }

// scope is a fleet as its streams see it. It lives while it has streams.
type scope struct {
	key fleetKey
	// view is nil until the fleet has a revision. It stays when the fleet is
	// deleted: its proxies keep what they have.
	view atomic.Pointer[view]
	// what proxies that come back may have
	clusters, listeners recall
	spreads             spreads

	// guarded by hub.mu: secrets are the groups whose secrets the fleet names.
	roster  roster
	secrets map[*group]struct{}
}

// recall returns the memory of a type that is sent whole and in order, nil
// for others.
func (s *scope) recall(k *kind) *recall {
	switch k.role {
	case roleCluster:
		return &s.clusters
	case roleListener:
		return &s.listeners
	default:
		return nil
	}
}

// hub finds the streams that a change concerns.
type hub struct {
	kinds *kinds

	mu     sync.Mutex
	state  *fsm.State // newest that the hub has seen
	scopes map[fleetKey]*scope
	// left are the scopes whose last stream ended, oldest first: a fleet of
	// one proxy whose stream was cut is to be known when it comes back.
	left   []*scope
	groups map[groupKey]*group
	// byName is the reverse index of the groups' names; under the empty name
	// stand the groups with a wildcard.
	byName map[liveKey]*liveName
	vault  *vault
	// following are the fleets with revisions on their way; unfollowed counts
	// those that are not followed.
	following  map[*scope]struct{}
	unfollowed func()
}

func newHub(ks *kinds, v *vault, m *metrics) *hub {
	return &hub{
		kinds: ks, following: map[*scope]struct{}{}, unfollowed: m.reports.WithLabelValues("dropped").Inc,
		scopes: map[fleetKey]*scope{}, groups: map[groupKey]*group{},
		byName: map[liveKey]*liveName{}, vault: v,
	}
}

// advance makes a state the newest, unless a newer one was seen. A state
// after a restore of the cluster may have any index, so whatever comes with
// `anew` is taken.
func (h *hub) advance(st *fsm.State, anew bool) {
	if h.state == nil || anew || st.Index() >= h.state.Index() {
		h.state = st
	}
}

// join adds a stream to its fleet.
func (h *hub) join(key fleetKey, st *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, ok := h.scopes[key]
	if !ok {
		s = h.revive(key)
		h.scopes[key] = s
		h.renew(s, false)
	}
	st.spread.Store(s.spreads.newest.Load())
	s.roster.add(st)
	st.scope = s // before anybody finds the stream
}

// maxLeft bounds the fleets without streams that are remembered.
const maxLeft = 256

// revive returns the scope of a fleet that had streams not long ago, or a new
// one.
func (h *hub) revive(key fleetKey) *scope {
	i := slices.IndexFunc(h.left, func(s *scope) bool { return s.key == key })
	if i < 0 {
		return &scope{key: key, roster: roster{place: inScope}, secrets: map[*group]struct{}{}}
	}
	s := h.left[i]
	h.left = slices.Delete(h.left, i, i+1)
	if h.state != nil {
		if _, ok := h.state.Revision(key.tenant, key.fleet, 0); !ok {
			s.view.Store(nil) // deleted meanwhile
		}
	}
	return s
}

func (h *hub) leave(s *scope, st *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.roster.remove(st)
	s.spreads.settle(st, math.MaxUint64, func(sp *spread) { sp.departed++ })
	if len(s.roster.streams) == 0 && h.scopes[s.key] == s {
		delete(h.scopes, s.key)
		if len(h.left) == maxLeft {
			h.left = slices.Delete(h.left, 0, 1)
		}
		h.left = append(h.left, s)
	}
}

// renew makes the newest view of a fleet. It returns the types that changed,
// and whether it is the first view. With follow, the way of its revision to
// the streams is followed.
func (h *hub) renew(s *scope, follow bool) (changed []string, first bool) {
	if h.state == nil {
		return nil, false
	}
	r, ok := h.state.Revision(s.key.tenant, s.key.fleet, 0)
	if !ok {
		return nil, false
	}
	old := s.view.Load()
	if old != nil && old.source == r {
		return nil, false
	}
	if follow {
		h.followRevisions(s, old, r, time.Now())
	}
	v, changed := newView(h.kinds, r, old)
	s.view.Store(v)
	return changed, old == nil
}

// past returns a fleet's last revisions below one, newest first.
func (h *hub) past(key fleetKey, below uint64) []*fsm.Revision {
	h.mu.Lock()
	st := h.state
	h.mu.Unlock()
	var out []*fsm.Revision
	if st == nil || below == 0 {
		return nil
	}
	for r := range st.Revisions(key.tenant, key.fleet, below) {
		out = append(out, r)
		if len(out) == maxRecallRevisions {
			break
		}
	}
	return out
}

// streams returns the streams of a tenant ("": of all), of one fleet when it
// is named.
func (h *hub) streams(tenant, fleet string) []*stream {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []*stream
	if tenant != "" && fleet != "" {
		if s, ok := h.scopes[fleetKey{tenant, fleet}]; ok {
			out = slices.Clone(s.roster.streams)
		}
		return out
	}
	for key, s := range h.scopes {
		if tenant == "" || key.tenant == tenant {
			out = append(out, s.roster.streams...)
		}
	}
	return out
}

// proxies returns the streams of some proxies of a tenant.
func (h *hub) proxies(tenant string, ids []string) []*stream {
	wanted := make(map[string]struct{}, len(ids))
	for _, id := range ids {
		wanted[id] = struct{}{}
	}
	return slices.DeleteFunc(h.streams(tenant, ""), func(st *stream) bool {
		_, ok := wanted[st.id.Proxy]
		return !ok
	})
}
