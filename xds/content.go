package xds

import (
	"encoding/binary"
	"encoding/hex"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
)

// content is what a proxy has, or is to have, of one type: items by name. It
// is immutable but for what is remembered on it, and shared by all streams
// with the same subscription, so that a stream knows what it sent by a
// pointer.
type content struct {
	kind *kind
	// items are sorted by name.
	items []*item
	// whole contents belong to a wildcard, or hold all that the proxy is to
	// have on demand: what is not among the items does not exist for it. Else only the names among the items are spoken of.
	whole bool
	// base is the content of the state that a content for one step of a
	// change was derived from; itself when it was not derived.
	base *content
	// private contents belong to one stream and remember no frames.
	private bool
	// guessed contents hold what a proxy may have had of older revisions: it
	// may never have accepted some of it.
	guessed bool
	// sub is the subscription whose content it is; nil for derived contents.
	// Frames are remembered while several streams hold it.
	sub *subscription
	// ttl is the shortest time to live among the items, 0 when none has one.
	ttl time.Duration

	// of is the newest set that the content is true of; nil for endpoints
	// and for derived contents.
	of atomic.Pointer[set]

	digestOnce sync.Once
	digestText string

	mu      sync.Mutex
	retired bool
	frames  map[frameKey]*frame
	unions  map[*content]*content
	fullOut map[bool][]byte // with times to live, without
	beats   map[beatKey]*frame
}

func newContent(k *kind, items []*item, whole bool) *content {
	c := &content{kind: k, items: items, whole: whole}
	c.base = c
	for _, i := range items {
		if i.ttl > 0 && (c.ttl == 0 || i.ttl < c.ttl) {
			c.ttl = i.ttl
		}
	}
	return c
}

// lone reports whether frames that lead to the content are of use to one stream
// at most.
func (c *content) lone() bool {
	return c.retired || c.private || c.base.sub != nil && c.base.sub.holders.Load() < 2
}

// find returns the item of a name, nil when the content has none.
func (c *content) find(name string) *item {
	if c == nil {
		return nil
	}
	return find(c.items, name)
}

// versionOf returns the version of a name, empty when the content has none.
func (c *content) versionOf(name string) string {
	if i := c.find(name); i != nil {
		return i.version
	}
	return ""
}

// revision is the newest revision whose content this is, 0 when it is none's.
func (c *content) revision() uint64 {
	if c == nil {
		return 0
	}
	if s := c.of.Load(); s != nil {
		return s.through.Load()
	}
	return 0
}

// digest is the version_info of a state-of-the-world response that covers
// the content: equal exactly for equal names and versions.
func (c *content) digest() string {
	c.digestOnce.Do(func() {
		a, b := xxhash.New(), xxhash.NewWithSeed(1)
		var n [9]byte
		for _, i := range c.items {
			binary.BigEndian.PutUint64(n[:], i.hash)
			n[8] = byte(i.state) // what is doubtful never equals what is present
			for _, d := range []*xxhash.Digest{a, b} {
				_, _ = d.WriteString(i.name)
				_, _ = d.Write([]byte{0})
				_, _ = d.Write(n[:])
			}
		}
		c.digestText = hex.EncodeToString(b.Sum(a.Sum(nil))[:12])
	})
	return c.digestText
}

// newest returns the version with the highest index among the items.
func newest(items []*item) string {
	var best *item
	for _, i := range items {
		if i.version != "" && (best == nil || i.index > best.index) {
			best = i
		}
	}
	if best == nil {
		return ""
	}
	return best.version
}

// retire drops what is remembered for sharing: the content has been replaced
// and only streams that lag still point at it.
func (c *content) retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retired, c.frames, c.unions, c.fullOut, c.beats = true, nil, nil, nil, nil
}

// maxRemembered bounds the derived contents and frames of one content.
const maxRemembered = 64

// keeping returns c together with what a proxy that has `from` would lose by
// it: the step of an ordered change before the removals.
func (c *content) keeping(from *content) *content {
	if from == nil || from == c {
		return c
	}
	if from.private {
		return c.unite(from)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if u, ok := c.unions[from]; ok {
		return u
	}
	u := c.unite(from)
	if !c.retired {
		if c.unions == nil || len(c.unions) >= maxRemembered {
			c.unions = map[*content]*content{}
		}
		c.unions[from] = u
	}
	return u
}

// unite makes the union that keeping returns: c itself when nothing is lost,
// `from` itself when nothing is new.
func (c *content) unite(from *content) *content {
	var kept []*item
	walk(from, c, func(had, now *item) {
		if had == nil || !had.held() {
			return
		}
		lost := now == nil && c.whole || now != nil && now.state == absent
		if lost && !c.occupies(had.binds) {
			kept = append(kept, had)
		}
	})
	return c.with(kept, from)
}

// with returns c with some items of what a proxy has in their names' places: c
// itself when there are none, `from` itself when that is all it has.
func (c *content) with(kept []*item, from *content) *content {
	if len(kept) == 0 {
		return c
	}
	items := overlay(c.items, kept)
	if sameItems(items, from.items) {
		return from
	}
	u := newContent(c.kind, items, c.whole)
	u.base, u.private, u.guessed = c.base, from.private, from.guessed
	return u
}

// unclaimed returns c without trust in what the proxy says it has of some
// names: it asks for them. If they are gone it is told at once, for nobody has
// what it claims.
func (c *content) unclaimed(names *subscription) *content {
	claims := func(i *item) bool { return i.state == claimed && names.has(i.name) }
	if c == nil || names == nil || !slices.ContainsFunc(c.items, claims) {
		return c
	}
	items := slices.Clone(c.items)
	for n, i := range items {
		if claims(i) {
			items[n] = &item{name: i.name, state: doubtful}
		}
	}
	u := newContent(c.kind, items, c.whole)
	u.private, u.guessed = c.private, c.guessed
	if c.base != c {
		u.base = c.base
	}
	return u
}

// occupies reports whether an item of c binds one of the addresses. A
// listener cannot take an address before the one that has it is gone, so
// those two go in one step.
func (c *content) occupies(binds []string) bool {
	if len(binds) == 0 {
		return false
	}
	for _, i := range c.items {
		for _, b := range i.binds {
			for _, a := range binds {
				if a == b {
					return true
				}
			}
		}
	}
	return false
}

// overlay returns items with those of over put in their names' places; both
// are sorted.
func overlay(items, over []*item) []*item {
	out := make([]*item, 0, len(items)+len(over))
	walkItems(items, over, func(i, o *item) {
		if o != nil {
			i = o
		}
		out = append(out, i)
	})
	return out
}

// walk calls f with the items of each name that one of two contents has, in
// order; the item of a content without that name is nil.
func walk(from, to *content, f func(had, now *item)) {
	var a []*item
	if from != nil {
		a = from.items
	}
	walkItems(a, to.items, f)
}

func walkItems(a, b []*item, f func(a, b *item)) {
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].name < b[0].name:
			f(a[0], nil)
			a = a[1:]
		case len(a) == 0 || b[0].name < a[0].name:
			f(nil, b[0])
			b = b[1:]
		default:
			f(a[0], b[0])
			a, b = a[1:], b[1:]
		}
	}
}
