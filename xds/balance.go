package xds

import (
	"context"
	"maps"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Load is how many streams a node has, as gossip tells it: what this package
// knows of other nodes is seconds old.
type Load struct {
	Node    string
	Streams int
	// Open: it takes streams.
	Open bool
}

// Bounds of moving streams to other nodes.
const (
	lookEvery = time.Second
	// minMargin is how far a node may be over its fair share at least.
	minMargin = 10
	// marginShare of the fair share is the margin of larger ones.
	marginShare = 10
	// moveShare of the margin is what moves at most in lookEvery: loads that
	// are moveShare/2 looks old make nobody shed below its share less half
	// the margin.
	moveShare = 8
	maxMoved  = 100
	// stickyFor is how long a proxy that was shed is not shed again.
	stickyFor = 10 * time.Minute
)

// fairShare returns how many streams each node that takes streams has when
// all have as many, 0 when no node does.
func fairShare(loads []Load) int {
	streams, open := 0, 0
	for _, l := range loads {
		streams += l.Streams
		if l.Open {
			open++
		}
	}
	if open == 0 {
		return 0
	}
	return (streams + open - 1) / open
}

// plan returns how many streams a node is to move away now.
func plan(loads []Load, self string) int {
	others := false
	own := 0
	for _, l := range loads {
		if l.Node == self {
			own = l.Streams
		} else if l.Open {
			others = true
		}
	}
	if !others {
		return 0
	}
	share := fairShare(loads)
	margin := max(minMargin, share/marginShare)
	return min(max(0, own-share-margin), max(1, margin/moveShare), maxMoved)
}

// balancer moves streams away while the node has more than its share.
type balancer struct {
	server *Server
	// shed holds when proxies were; moveShare and stickyFor bound it.
	shed map[proxyKey]time.Time
}

func (b *balancer) run(ctx context.Context) {
	for sleep(ctx, lookEvery) {
		loads := b.server.deps.Loads()
		self := b.server.config.NodeID
		for i := range loads {
			if loads[i].Node == self {
				loads[i].Streams = b.server.Streams() // gossip is behind
			}
		}
		b.server.metrics.fairShare.Set(float64(fairShare(loads)))
		if !b.server.draining.Load() {
			b.move(plan(loads, self), time.Now())
		}
	}
}

// move ends about n streams, those of a proxy together.
func (b *balancer) move(n int, now time.Time) {
	maps.DeleteFunc(b.shed, func(_ proxyKey, at time.Time) bool { return now.Sub(at) > stickyFor })
	if n == 0 {
		return
	}
	peers := map[string]struct{}{}
	defer b.server.conns.closeSoon(peers)
	proxies := map[proxyKey][]*stream{}
	for _, st := range b.server.tracked() {
		key := proxyKey{st.id.Tenant, st.id.Proxy}
		proxies[key] = append(proxies[key], st)
	}
	for key, streams := range proxies {
		if n <= 0 {
			return
		}
		if _, sticky := b.shed[key]; sticky || !settled(streams, now) {
			continue
		}
		b.shed[key] = now
		for _, st := range streams {
			st.end(errMoved())
			peers[st.peer] = struct{}{}
		}
		b.server.metrics.moved.Add(float64(len(streams)))
		n -= len(streams)
	}
}

func errMoved() error {
	return status.Error(codes.Unavailable, "this node has more than its share of streams; connect to another one")
}

// settled reports whether a proxy may be moved: all its streams have been
// there for a while, nothing is under way to it and nothing due.
func settled(streams []*stream, now time.Time) bool {
	for _, st := range streams {
		if now.Sub(st.since) < st.server.config.SettledAfter || !st.settled() {
			return false
		}
	}
	return true
}

func (st *stream) settled() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed || st.sending || len(st.types) == 0 {
		return false
	}
	view := st.scope.view.Load()
	for _, t := range st.types {
		if t.out != nil || t.parked != nil || t.owed || t.refresh || t.sent == nil || t.sent != st.current(t, view) {
			return false
		}
	}
	return true
}
