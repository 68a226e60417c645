package feed

import (
	"fmt"
	"sort"
	"sync"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Gone says that events behind a position are not retained any more.
type Gone struct {
	// Oldest is the number of the oldest event that is, or will be the next.
	Oldest uint64
}

// Error implements error.
func (g *Gone) Error() string { return fmt.Sprintf("the oldest event in memory is %d", g.Oldest) }

// EpochChanged says that the events from here on belong to another epoch.
type EpochChanged struct{ Epoch string }

// Error implements error.
func (e *EpochChanged) Error() string { return "the cluster goes on in epoch " + e.Epoch }

// Reader goes through one tenant's events. It belongs to one goroutine.
type Reader struct {
	hub   *Hub
	feed  *feed
	row   *row
	epoch string
	at    uint64
	close sync.Once
}

// Open returns a reader of a tenant's events, "" for those of the cluster
// itself, behind the newest one. It must be closed.
func (h *Hub) Open(tenant string) (*Reader, error) {
	if err := h.enter(); err != nil {
		return nil, err
	}
	h.takeIn(h.cluster.State())
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.feed(tenant)
	r := &Reader{hub: h, feed: f, row: f.seat(), epoch: h.st.Identity().GetEpoch()}
	if r.at = h.st.Seq(); tenant != "" {
		r.at = h.st.TenantSeq(tenant)
	}
	return r, nil
}

// Close ends the reading.
func (r *Reader) Close() {
	r.close.Do(func() {
		r.hub.mu.Lock()
		r.row.readers--
		r.hub.mu.Unlock()
		r.hub.leave()
	})
}

// Epoch returns the epoch that the reader began in. The positions that it goes
// through belong to it.
func (r *Reader) Epoch() string { return r.epoch }

// At returns the reader's position: the number of the last event that it has
// gone by.
func (r *Reader) At() uint64 { return r.at }

// Seek moves the reader behind the event of a number, which need not exist
// yet.
func (r *Reader) Seek(n uint64) { r.at = n }

// Oldest returns the number from which on all events are in memory.
func (r *Reader) Oldest() uint64 {
	r.hub.mu.RLock()
	defer r.hub.mu.RUnlock()
	return r.feed.dropped + 1
}

// SeekIndex moves the reader behind all events of the log entries up to an
// index, which the node's state had reached when the reader was opened. The
// error is a *Gone when it is not known where that is.
func (r *Reader) SeekIndex(index uint64) error {
	h, f := r.hub, r.feed
	h.mu.RLock()
	defer h.mu.RUnlock()
	i := sort.Search(len(f.window), func(i int) bool { return f.window[i].Event.Index > index })
	switch {
	case i > 0:
		r.at = f.window[i-1].Number()
	case f.dropped == 0 || index >= firstIndex(h):
		r.at = f.dropped
	default:
		return &Gone{Oldest: f.dropped + 1}
	}
	return nil
}

// firstIndex returns an index that no dropped event is above.
func firstIndex(h *Hub) uint64 {
	for ev := range h.st.Events(0) {
		return ev.Index
	}
	return h.st.Index()
}

// Next moves the reader over the next events, as many as fit into room, and
// returns them, with the log index that they are complete up to and a channel that
// is closed when there may be more. The error is a *Gone or an *EpochChanged, behind
// the last event of the reader's epoch.
func (r *Reader) Next(room []*Entry) (events []*Entry, index uint64, more <-chan struct{}, err error) {
	h, f := r.hub, r.feed
	h.mu.RLock()
	defer h.mu.RUnlock()
	if r.at < f.dropped {
		return nil, 0, nil, &Gone{Oldest: f.dropped + 1}
	}
	rest := f.above(r.at)
	if id := h.st.Identity(); id.GetEpoch() != r.epoch {
		rest = before(rest, id, r.epoch)
		if len(rest) == 0 {
			return nil, 0, nil, &EpochChanged{Epoch: id.GetEpoch()}
		}
	}
	events = room[:copy(room, rest)]
	if len(events) > 0 {
		r.at = events[len(events)-1].Number()
	}
	return events, h.st.Index(), r.row.more, nil
}

// before returns those of an epoch's events that came before the present one
// branched off it.
func before(events []*Entry, id *fsmpb.Identity, epoch string) []*Entry {
	if id.GetParentEpoch() != epoch {
		return nil
	}
	return events[:sort.Search(len(events), func(i int) bool { return events[i].Event.Seq > id.GetParentSeq() })]
}

// JSON returns an event as clients see it. It is shared.
func (r *Reader) JSON(e *Entry) ([]byte, error) {
	if json := e.json.Load(); json != nil {
		return *json, nil
	}
	json, err := r.hub.encode(e.Event)
	if err != nil {
		return nil, err
	}
	r.hub.cache.keep(e, json)
	return json, nil
}
