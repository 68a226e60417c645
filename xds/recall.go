package xds

import (
	"slices"
	"sync"

	"github.com/org/envoy-control-plane/fsm"
)

// Bounds of what is remembered of a fleet remembers for proxies that come back.
const (
	maxRecalled        = 32
	maxRecallRevisions = 8
)

// recall, one for each fleet and type, finds out what a proxy has that comes back in the state-of-the-world
// protocol: all it says is the version_info of what it accepted last. Only
// with the names behind it can what goes be kept for the length of a change.
type recall struct {
	mu     sync.Mutex
	recent []*content // newest last
	// searched is the view whose revisions are among recent; doubted is what any
	// of those had, in doubt.
	searched *view
	doubted  *content
}

// remember notes a content that was sent whole.
func (r *recall) remember(c *content) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(c)
}

func (r *recall) add(c *content) {
	if slices.Contains(r.recent, c) {
		return
	}
	if len(r.recent) == maxRecalled {
		r.recent = slices.Delete(r.recent, 0, 1)
	}
	r.recent = append(r.recent, c)
}

// find returns the content of a type that a version_info stands for, among
// those that were sent from here and those of the fleet's last revisions
// (newest first, from below the view's). When there is none, as of a proxy that
// another node sent a step of a change, it is taken to have, perhaps, the
// clusters of any of those revisions: to keep one too many for a moment does no
// harm.
func (r *recall) find(k *kind, claim string, v *view, revisions func() []*fsm.Revision) *content {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v != nil && r.searched != v {
		r.searched, r.doubted = v, nil
		r.search(k, revisions())
	}
	for _, c := range slices.Backward(r.recent) {
		if c.kind.url == k.url && c.digest() == claim {
			return c
		}
	}
	if k.role == roleCluster {
		return r.doubted
	}
	return nil
}

// search adds what a wildcard got of a type in some revisions.
func (r *recall) search(k *kind, revisions []*fsm.Revision) {
	var newer *fsm.Revision
	var items []*item
	for _, rev := range revisions {
		if newer != nil && rev.SameType(newer, k.url) {
			continue
		}
		c := newContent(k, collect(rev, k.url, nil), true)
		r.add(c)
		items = overlay(c.items, items)
		newer = rev
	}
	if newer != nil {
		r.doubted = inDoubt(newContent(k, items, true))
	}
}

// inDoubt returns a content of which nobody knows whether a proxy has it.
func inDoubt(c *content) *content {
	items := make([]*item, 0, len(c.items))
	for _, i := range c.items {
		was := *i
		was.state = doubtful
		items = append(items, &was)
	}
	guess := newContent(c.kind, items, c.whole)
	guess.guessed = true
	return guess
}
