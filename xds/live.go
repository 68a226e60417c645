package xds

import (
	"iter"
	"slices"
	"sync/atomic"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Endpoints and secrets are live: they belong to a tenant and are in no
// revision. Endpoints are what they are for all fleets; of secrets a fleet gets
// those that its revision names.

// liveKey names live data of a tenant.
type liveKey struct{ url, tenant, name string }

// group is all streams that get the same of a live type.
type group struct {
	key     groupKey
	kind    *kind
	content atomic.Pointer[content]
	// scope is the fleet, for secrets.
	scope *scope

	// guarded by hub.mu
	roster roster
}

type groupKey struct {
	url, tenant string
	fleet       string // for secrets
	sub         *subscription
}

// liveName is what the groups that name the same share.
type liveName struct {
	groups map[*group]struct{}
	// item is made of source, a service's endpoints; both nil before they are
	// looked up, and source when there are none.
	item   *item
	source *fsmpb.Endpoints
}

// joinGroup adds a stream to those that get the same of a live type. What that
// is is looked up now, if it is the first.
func (h *hub) joinGroup(k *kind, sub *subscription, st *stream) *group {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := groupKey{url: k.url, tenant: st.id.Tenant, sub: sub}
	if k.isSecret() {
		key.fleet = st.id.Fleet
	}
	g, ok := h.groups[key]
	if !ok {
		g = &group{key: key, kind: k, roster: roster{place: inEndpoints}}
		if k.isSecret() {
			g.roster.place = inSecrets
			g.scope = st.scope
			g.scope.secrets[g] = struct{}{}
		}
		h.groups[key] = g
		for name := range g.indexed() {
			if h.byName[name] == nil {
				h.byName[name] = &liveName{groups: map[*group]struct{}{}}
			}
			h.byName[name].groups[g] = struct{}{}
		}
		h.renewGroup(g, nil)
	}
	g.roster.add(st)
	return g
}

// indexed yields the keys that a group is found by.
func (g *group) indexed() iter.Seq[liveKey] {
	return func(yield func(liveKey) bool) {
		if g.key.sub.wildcard && !yield(liveKey{g.key.url, g.key.tenant, ""}) {
			return
		}
		for _, name := range g.key.sub.names {
			if !yield(liveKey{g.key.url, g.key.tenant, name}) {
				return
			}
		}
	}
}

func (h *hub) leaveGroup(g *group, st *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	g.roster.remove(st)
	if len(g.roster.streams) > 0 {
		return
	}
	delete(h.groups, g.key)
	if g.scope != nil {
		delete(g.scope.secrets, g)
	}
	for name := range g.indexed() {
		delete(h.byName[name].groups, g)
		if len(h.byName[name].groups) == 0 {
			delete(h.byName, name)
		}
	}
}

// renewGroup looks up what a group gets of some names anew, nil for all; it
// reports whether anything changed.
func (h *hub) renewGroup(g *group, names []string) bool {
	if h.state == nil {
		return false
	}
	old := g.content.Load()
	items, known := h.replaced(g, old, names)
	if !known {
		items = h.itemsOf(g, old)
	}
	if old != nil && sameItems(old.items, items) {
		return false
	}
	c := newContent(g.kind, items, g.key.sub.wildcard)
	c.sub = g.key.sub
	g.content.Store(c)
	if old != nil {
		old.retire()
	}
	return true
}

// replaced returns the items of a content with those of some names looked up
// anew. known is false when others have to be looked at: a wildcard may have
// more or less of them now.
func (h *hub) replaced(g *group, old *content, names []string) (items []*item, known bool) {
	if old == nil || names == nil {
		return nil, false
	}
	items, shared := old.items, true
	for _, name := range names {
		i, there := slices.BinarySearchFunc(items, name, compareItems)
		if !there {
			return nil, false
		}
		now := h.look(g, name, items[i])
		if now == items[i] {
			continue
		}
		if now.state == absent && !g.key.sub.has(name) {
			return nil, false
		}
		if shared {
			items, shared = slices.Clone(items), false
		}
		items[i] = now
	}
	return items, true
}

// itemsOf looks up all that a group gets.
func (h *hub) itemsOf(g *group, old *content) []*item {
	var all []*item
	switch {
	case !g.key.sub.wildcard:
	case g.kind.isSecret():
		all = h.allSecrets(g, old)
	default:
		all = h.allEndpoints(g, old)
	}
	named := make([]*item, 0, len(g.key.sub.names))
	for _, name := range g.key.sub.names {
		named = append(named, h.look(g, name, old.find(name)))
	}
	return overlay(all, named)
}

// look returns the item of a name; was is the one before, nil for none.
func (h *hub) look(g *group, name string, was *item) *item {
	if g.kind.isSecret() {
		return h.secret(g, name, was)
	}
	return h.endpoint(g, name, was)
}

// endpoint returns the item of a service; was is the one before, nil for none.
func (h *hub) endpoint(g *group, name string, was *item) *item {
	e, _ := h.state.Endpoints(g.key.tenant, name)
	return keep(was, h.itemOf(g, name, e))
}

func (h *hub) allEndpoints(g *group, old *content) []*item {
	var items []*item
	for e := range h.state.EndpointsOf(g.key.tenant, "") {
		items = append(items, keep(old.find(e.Service), h.itemOf(g, e.Service, e)))
	}
	return items
}

// itemOf returns the item of a service with its endpoints, nil for none: the
// same one to all groups that name it.
func (h *hub) itemOf(g *group, name string, e *fsmpb.Endpoints) *item {
	n := h.byName[liveKey{g.key.url, g.key.tenant, name}]
	if n != nil && n.item != nil && n.source == e {
		return n.item
	}
	i := &item{name: name, state: absent}
	if e != nil {
		i = itemOfEndpoints(e)
	}
	if n != nil {
		n.item, n.source = i, e
	}
	return i
}

// keep returns the old item of a name, which may be nil, when it is equal to
// the new one.
func keep(was, i *item) *item {
	if was != nil && was.sameAs(i) && was.version == i.version {
		return was
	}
	return i
}
