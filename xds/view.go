package xds

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/org/envoy-control-plane/fsm"
)

// set is all of a fleet's resources of one type. It is immutable but for the
// contents that it remembers by subscription. Revisions that leave a type as
// it was share its set.
type set struct {
	kind  *kind
	items []*item
	// hosts is made when a virtual host is first asked for.
	hosts func() hosts
	// secrets are the sorted names of those that the resources name.
	secrets func() []string
	// through is the newest revision that has this set.
	through atomic.Uint64

	mu       sync.Mutex
	contents map[*subscription]*content
	pruneAt  int
}

func newSet(k *kind, items []*item, revision uint64) *set {
	s := &set{kind: k, items: items, contents: map[*subscription]*content{}, pruneAt: maxRemembered}
	s.hosts = sync.OnceValue(func() hosts { return newHosts(items) })
	s.secrets = sync.OnceValue(func() []string { return secretsOf(items) })
	s.through.Store(revision)
	return s
}

// content returns what a subscription gets.
func (s *set) content(sub *subscription) *content {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.contents[sub]; ok {
		return c
	}
	if len(s.contents) >= s.pruneAt {
		for old := range s.contents {
			if old.dead() {
				delete(s.contents, old)
			}
		}
		s.pruneAt = 2*len(s.contents) + maxRemembered
	}
	c := s.contentOf(sub)
	c.sub = sub
	c.of.Store(s)
	s.contents[sub] = c
	return c
}

// contentOf makes what a subscription gets.
func (s *set) contentOf(sub *subscription) *content {
	if s.kind.onDemand {
		if len(sub.names) > 0 {
			return newContent(s.kind, s.answers(sub), true)
		}
		if !sub.wildcard {
			return newContent(s.kind, nil, true)
		}
	}
	return newContent(s.kind, selectItems(s.items, sub), sub.wildcard)
}

// selectItems returns what a subscription gets of all items: under a wildcard
// all of them, and one that says so for each name that is not there.
func selectItems(all []*item, sub *subscription) []*item {
	if sub.wildcard && len(sub.names) == 0 {
		return all
	}
	out := make([]*item, 0, len(sub.names))
	for _, name := range sub.names {
		i := find(all, name)
		if i == nil {
			i = &item{name: name, state: absent}
		}
		out = append(out, i)
	}
	if sub.wildcard {
		return overlay(all, out)
	}
	return out
}

// succeed takes over the contents of the set before: those that are equal
// stay the same, so that their streams see no change; the others retire.
func (s *set) succeed(old *set) {
	old.mu.Lock()
	defer old.mu.Unlock()
	for sub, was := range old.contents {
		if sub.dead() {
			continue
		}
		now := s.contentOf(sub)
		now.sub = sub
		if sameItems(was.items, now.items) {
			was.of.Store(s)
			s.contents[sub] = was
			continue
		}
		now.of.Store(s)
		s.contents[sub] = now
		was.retire()
	}
	s.pruneAt = 2*len(s.contents) + maxRemembered
}

// view is what a fleet's proxies are to have: one revision of it.
type view struct {
	revision uint64
	source   *fsm.Revision

	// known are the sets of the types known by name, in their order, to be
	// found without the lock; nil until there is one.
	known [maxKnown]atomic.Pointer[set]

	mu      sync.Mutex
	sets    map[string]*set // by type URL
	pruneAt int
}

// set returns the view's set of a type; an empty one when it has none.
func (v *view) set(k *kind) *set {
	if k.known() {
		if s := v.known[k.order].Load(); s != nil {
			return s
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	s, ok := v.sets[k.url]
	if ok {
		return s
	}
	if len(v.sets) >= v.pruneAt {
		maps.DeleteFunc(v.sets, func(_ string, s *set) bool { return !s.kind.known() && s.idle() })
		v.pruneAt = 2*len(v.sets) + maxRemembered
	}
	s = newSet(k, nil, v.revision)
	v.put(s)
	return s
}

// put adds a set; v.mu is held, or v not yet shared.
func (v *view) put(s *set) {
	v.sets[s.kind.url] = s
	if s.kind.known() {
		v.known[s.kind.order].Store(s)
	}
}

// idle reports whether a set is empty and nobody asks for it: clients may ask
// for any type.
func (s *set) idle() bool {
	if len(s.items) > 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for sub := range s.contents {
		if !sub.dead() {
			return false
		}
	}
	return true
}

// newView makes the view of a revision out of the one before, which may be
// nil. It returns the type URLs that changed.
func newView(ks *kinds, r *fsm.Revision, old *view) (*view, []string) {
	v := &view{revision: r.Info.GetRevision(), source: r, sets: map[string]*set{}, pruneAt: maxRemembered}
	before := map[string]*set{}
	var source *fsm.Revision
	if old != nil {
		source = old.source
		old.mu.Lock()
		for url, s := range old.sets {
			if !s.idle() {
				before[url] = s
			}
		}
		old.mu.Unlock()
	}
	urls := r.Types()
	for url := range before {
		urls = append(urls, url)
	}
	slices.Sort(urls)
	var changed []string
	for _, url := range slices.Compact(urls) {
		was := before[url]
		if was != nil && r.SameType(source, url) {
			was.through.Store(v.revision)
			v.put(was)
			continue
		}
		s := newSet(ks.of(url), collect(r, url, was), v.revision)
		v.put(s)
		if was != nil {
			s.succeed(was)
		}
		changed = append(changed, url)
	}
	return v, changed
}

// collect returns the items of a type, the same ones as before where nothing
// changed.
func collect(r *fsm.Revision, url string, was *set) []*item {
	items := make([]*item, 0, r.Len(url))
	var old []*item
	if was != nil {
		old = was.items
	}
	for res := range r.Resources(url) {
		for len(old) > 0 && old[0].name < res.Name {
			old = old[1:]
		}
		if len(old) > 0 && old[0].name == res.Name && old[0].version == res.Version {
			items = append(items, old[0])
			continue
		}
		items = append(items, itemOf(res))
	}
	return items
}
