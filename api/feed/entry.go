package feed

import (
	"sort"
	"sync"
	"sync/atomic"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Entry is one event, with its JSON as soon as somebody has asked for it.
type Entry struct {
	// Event is shared and must not be modified.
	Event *fsmpb.Event
	json  atomic.Pointer[[]byte]
}

// Number is the event's place among those of its tenant; the cluster's own
// events have the cluster's sequence, which is not without holes for them.
func (e *Entry) Number() uint64 { return number(e.Event) }

func number(ev *fsmpb.Event) uint64 {
	if ev.Tenant == "" {
		return ev.Seq
	}
	return ev.TenantSeq
}

// feed is what the state retains of one tenant's events, or, for "", of those
// of the cluster itself.
type feed struct {
	tenant string
	// window holds the retained events, oldest first. Invariant: their numbers
	// rise, and all events of the feed above dropped are there.
	window  []*Entry
	dropped uint64
	rows    []*row
}

// row is readers that are woken at once.
type row struct {
	readers int
	more    chan struct{} // closed, and replaced, when there is more
}

// maxRow is how many readers a row has.
const maxRow = 128

// seat returns a row with room for a reader, who is counted there.
func (f *feed) seat() *row {
	for _, r := range f.rows {
		if r.readers < maxRow {
			r.readers++
			return r
		}
	}
	r := &row{readers: 1, more: make(chan struct{})}
	f.rows = append(f.rows, r)
	return r
}

// reset empties a feed: of what a state has retained nothing is known yet.
func (f *feed) reset(st *fsm.State) {
	f.window = nil
	if f.tenant == "" {
		f.dropped = st.FirstSeq() - 1
		return
	}
	f.dropped = st.TenantSeq(f.tenant)
}

func (f *feed) add(ev *fsmpb.Event) {
	if len(f.window) == 0 {
		// reset took the numbers from a state that has this event.
		f.dropped = min(f.dropped, number(ev)-1)
	}
	f.window = append(f.window, &Entry{Event: ev})
}

// drop takes the oldest event away.
func (f *feed) drop() {
	f.dropped = f.window[0].Number()
	f.window[0] = nil
	f.window = f.window[1:]
}

// above returns the events above a number.
func (f *feed) above(n uint64) []*Entry {
	if last := len(f.window); last == 0 || f.window[last-1].Number() <= n {
		return nil
	}
	return f.window[sort.Search(len(f.window), func(i int) bool { return f.window[i].Number() > n }):]
}

// maxCached bounds the JSON that is kept for the next reader, in bytes.
const maxCached = 16 << 20

// cache keeps the JSON of the events that were encoded last.
type cache struct {
	mu    sync.Mutex
	kept  []*Entry
	bytes int
}

// keep lets an entry keep its JSON, for as long as there is room.
func (c *cache) keep(e *Entry, json []byte) {
	if !e.json.CompareAndSwap(nil, &json) {
		return // another reader was faster
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept = append(c.kept, e)
	c.bytes += len(json)
	for c.bytes > maxCached {
		if old := c.kept[0].json.Swap(nil); old != nil {
			c.bytes -= len(*old)
		}
		c.kept[0] = nil
		c.kept = c.kept[1:]
	}
}
