package xds

import (
	"slices"

	"google.golang.org/grpc/mem"

	"github.com/org/envoy-control-plane/fsm"
)

// protocol is one of the two forms of xDS.
type protocol uint8

const (
	stateOfTheWorld protocol = iota
	delta
)

func (p protocol) String() string {
	if p == delta {
		return "delta"
	}
	return "sotw"
}

// frameKey is what decides a frame's bytes, next to the content that it leads
// to.
type frameKey struct {
	protocol protocol
	from     *content
	forced   *subscription
	must     bool // also when there is nothing to say
	ttl      bool // the proxy takes times to live
}

// frame is one response, encoded once and shared by the streams that are due
// the same. Only the nonce is missing from its bytes.
type frame struct {
	protocol protocol
	to       *content
	diff     diff
	// body is nil when there is nothing to say: a stream then moves to `to`
	// in silence.
	body []byte
	// shared is the body as gRPC takes it, version how its content is called.
	shared  mem.Buffer
	version string
	// services are asked for by the clusters that the frame changes.
	services *subscription
	// ttl: times to live are in it. beat: it is a heartbeat, which only renews
	// them; bare: and leaves the bodies out.
	ttl, beat, bare bool

	// doubts are what proxies may have after they rejected the frame, by what
	// they had before; guarded by to.mu.
	doubts map[*content]*content
}

// encoder makes frames.
type encoder struct {
	identifier string // control_plane.identifier
	metrics    *metrics
	vault      *vault
}

// frame returns the response that leads a stream to `to`, from the content
// that it has (nil: nothing).
func (e *encoder) frame(to *content, key frameKey) *frame {
	key.ttl = key.ttl && to.ttl > 0
	to.mu.Lock()
	defer to.mu.Unlock()
	if f, ok := to.frames[key]; ok {
		return f
	}
	f := e.encode(to, key).ready()
	if !to.lone() && (key.from == nil || !key.from.private) {
		if to.frames == nil || len(to.frames) >= maxRemembered {
			to.frames = map[frameKey]*frame{}
		}
		to.frames[key] = f
	}
	return f
}

// encode makes a frame; to.mu is held.
func (e *encoder) encode(to *content, key frameKey) *frame {
	p, must := key.protocol, key.must
	f := &frame{protocol: p, to: to, ttl: key.ttl, diff: compare(key.from, to, key.forced)}
	if to.kind.url == fsm.TypeCluster {
		if names := f.diff.services(); len(names) > 0 {
			f.services = &subscription{names: names}
		}
	}
	switch {
	case p == delta && (must || !f.diff.empty()):
		f.body = e.delta(f)
	case p == stateOfTheWorld && to.kind.full && (must || !f.diff.empty()):
		f.body = e.whole(to, key.ttl)
		return f
	case p == stateOfTheWorld && !to.kind.full:
		f.body = e.partial(f)
	}
	if f.body != nil {
		e.metrics.encoded.Inc()
	}
	return f
}

// whole makes the response that holds all of a content, for types of which
// each does; to.mu is held.
func (e *encoder) whole(to *content, ttl bool) []byte {
	b, ok := to.fullOut[ttl]
	if ok {
		return b
	}
	b = e.state(to, to.items, nil, ttl)
	e.metrics.encoded.Inc()
	if to.lone() {
		return b
	}
	if to.fullOut == nil {
		to.fullOut = map[bool][]byte{}
	}
	to.fullOut[ttl] = b
	return b
}

// partial makes the response for types of which a response may hold only what
// changed; nil when it would hold nothing.
func (e *encoder) partial(f *frame) []byte {
	var gone []string
	if f.to.kind.isEndpoints() {
		gone = f.diff.removed
	}
	if len(f.diff.changed)+len(gone) == 0 {
		return nil
	}
	return e.state(f.to, f.diff.changed, gone, f.ttl)
}

// names returns the names that a frame speaks of.
func (f *frame) names() []string {
	names := make([]string, 0, len(f.diff.changed)+len(f.diff.removed)+len(f.diff.missed))
	for _, i := range f.diff.changed {
		names = append(names, i.name)
	}
	for _, i := range f.diff.missed {
		names = append(names, i.name)
	}
	return append(names, f.diff.removed...)
}

func (f *frame) speaksOf(name string) bool {
	return find(f.diff.changed, name) != nil || slices.Contains(f.diff.removed, name) ||
		slices.ContainsFunc(f.diff.changed, func(i *item) bool { return slices.Contains(i.asked, name) }) ||
		find(f.diff.missed, name) != nil
}

// ready fills in what a frame's body and content decide. In reports a content
// is called by version_info in the state of the world, else by the newest
// version in it.
func (f *frame) ready() *frame {
	f.shared = mem.SliceBuffer(f.body)
	if f.protocol == stateOfTheWorld {
		f.version = f.to.digest()
	} else if f.version = newest(f.diff.changed); f.version == "" {
		f.version = newest(f.to.items)
	}
	return f
}

// doubt returns what a proxy that had `from` and rejected the frame may have:
// nobody knows for the names that the frame spoke of.
func (f *frame) doubt(from *content) *content {
	f.to.mu.Lock()
	defer f.to.mu.Unlock()
	if c, ok := f.doubts[from]; ok {
		return c
	}
	var unsure []*item
	for _, name := range sortedSet(f.names()) {
		i := &item{name: name}
		if was := from.find(name); was != nil {
			*i = *was // what it last accepted
		}
		i.state = doubtful
		unsure = append(unsure, i)
	}
	var had []*item
	if from != nil {
		had = from.items
	}
	if !f.to.whole { // what is not among its names is not subscribed to any more
		had = slices.DeleteFunc(slices.Clone(had), func(i *item) bool { return f.to.find(i.name) == nil })
	}
	c := newContent(f.to.kind, overlay(had, unsure), f.to.whole)
	c.guessed = from != nil && from.guessed
	if from != nil && from.private {
		c.private = true
		return c
	}
	if f.doubts == nil || len(f.doubts) >= maxRemembered {
		f.doubts = map[*content]*content{}
	}
	f.doubts[from] = c
	return c
}
