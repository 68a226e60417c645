package feed

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Cluster publishes states.
type Cluster interface {
	// State returns the newest state applied here.
	State() *fsm.State
	// WaitApplied waits until the state here has reached an index.
	WaitApplied(ctx context.Context, index uint64) (*fsm.State, error)
}

// ErrFull refuses a reader beyond the hub's limit.
var ErrFull = errors.New("there are as many readers as allowed")

// Hub follows a node's state for readers of events.
type Hub struct {
	cluster Cluster
	encode  func(*fsmpb.Event) ([]byte, error)
	limit   int
	cache   cache

	// life guards how many readers there are, and with that the pump's life.
	life    sync.Mutex
	readers int
	end     context.CancelFunc
	ended   chan struct{}

	// mu guards what the pump writes: the state taken in last, nil while nobody
	// reads, the feeds, and those with readers to be woken. Feeds stay as long as
	// the pump: readers hold them.
	mu    sync.RWMutex
	st    *fsm.State
	feeds map[string]*feed
	due   map[*feed]struct{}
}

// New returns a hub for up to limit readers at a time. encode makes an event's
// JSON.
func New(cluster Cluster, encode func(*fsmpb.Event) ([]byte, error), limit int) *Hub {
	return &Hub{cluster: cluster, encode: encode, limit: limit}
}

// Readers returns how many readers there are.
func (h *Hub) Readers() int {
	h.life.Lock()
	defer h.life.Unlock()
	return h.readers
}

// enter counts a reader; the first one starts the pump.
func (h *Hub) enter() error {
	h.life.Lock()
	defer h.life.Unlock()
	if h.readers >= h.limit {
		return ErrFull
	}
	h.readers++
	if h.readers > 1 {
		return nil
	}
	ctx, end := context.WithCancel(context.Background())
	h.end, h.ended = end, make(chan struct{})
	go func() {
		defer close(h.ended)
		h.pump(ctx)
	}()
	return nil
}

// leave uncounts a reader; the last one ends the pump.
func (h *Hub) leave() {
	h.life.Lock()
	defer h.life.Unlock()
	if h.readers--; h.readers > 0 {
		return
	}
	h.end()
	<-h.ended
	h.mu.Lock()
	h.st, h.feeds, h.due, h.cache = nil, nil, nil, cache{}
	h.mu.Unlock()
}

// pump takes in one state after the other.
func (h *Hub) pump(ctx context.Context) {
	for ctx.Err() == nil {
		index := h.takeIn(h.cluster.State())
		h.wake(ctx)
		// An error is the end of the context.
		_, _ = h.cluster.WaitApplied(ctx, index+1)
	}
}

// rest is how long the pump rests for each reader that it has woken. One that has
// passed over what is not for it has taken half of that.
const rest = 6 * time.Microsecond

// wake wakes the readers of the feeds that have more, row by row, with a rest
// after each: however many there are, the node's other work goes on. They are
// late by that, and find the more at once.
func (h *Hub) wake(ctx context.Context) {
	h.mu.Lock()
	var rows []*row
	for f := range h.due {
		rows = append(rows, f.rows...)
	}
	clear(h.due)
	h.mu.Unlock()
	for _, r := range rows {
		h.mu.Lock()
		n := r.readers
		close(r.more)
		r.more = make(chan struct{})
		h.mu.Unlock()
		select {
		case <-time.After(time.Duration(n) * rest):
		case <-ctx.Done():
			return
		}
	}
}

// takeIn brings the feeds up to a state, unless they are there already, and
// returns the index that they are at.
func (h *Hub) takeIn(st *fsm.State) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.st
	if before != nil && st.Index() <= before.Index() {
		return before.Index()
	}
	h.st = st
	if before == nil || st.FirstSeq() > before.Seq()+1 || st.Seq() < before.Seq() {
		h.rebuild()
		return st.Index()
	}
	for ev := range before.Events(before.FirstSeq() - 1) {
		if ev.Seq >= st.FirstSeq() {
			break
		}
		h.feed(ev.Tenant).drop()
	}
	for ev := range st.Events(before.Seq()) {
		f := h.feed(ev.Tenant)
		f.add(ev)
		h.due[f] = struct{}{}
	}
	if st.Identity().GetEpoch() != before.Identity().GetEpoch() {
		for _, f := range h.feeds {
			h.due[f] = struct{}{}
		}
	}
	return st.Index()
}

// rebuild sorts all in that the state retains: at the beginning, and when the
// state has moved so far that events are missing in between.
func (h *Hub) rebuild() {
	if h.feeds == nil {
		h.feeds, h.due = map[string]*feed{}, map[*feed]struct{}{}
	}
	for _, f := range h.feeds {
		f.reset(h.st)
	}
	for ev := range h.st.Events(0) {
		h.feed(ev.Tenant).add(ev)
	}
	for _, f := range h.feeds {
		h.due[f] = struct{}{}
	}
}

// feed returns a tenant's feed; h.mu is held.
func (h *Hub) feed(tenant string) *feed {
	f := h.feeds[tenant]
	if f == nil {
		f = &feed{tenant: tenant}
		f.reset(h.st)
		h.feeds[tenant] = f
	}
	return f
}
