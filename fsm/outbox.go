package fsm

import (
	"iter"

	iradix "github.com/hashicorp/go-immutable-radix/v2"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Bounds of the outbox.
const (
	// Without an archive the newest events are kept for history and streams.
	maxRecentEvents = 10_000
	maxRecentBytes  = 32 << 20
	// Archived events are kept for the replay window, in at most these bytes.
	maxReplayBytes         = 64 << 20
	defaultReplayWindowMs  = 15 * 60 * 1000
	defaultMaxOutboxBytes  = 256 << 20
	maxCollapsedPerArchive = 1000
)

// outbox holds the events that the archive has not acknowledged, and recent
// ones that it has.
type outbox struct {
	settings *fsmpb.ArchiveSettings
	// seq is the last number given; archived the last one acknowledged.
	seq, archived uint64

	events *iradix.Tree[kept] // number
	// fresh are the events of the entry that is being applied, which go into the
	// trees together. Invariant: none in a state.
	fresh      []kept
	tenantSeqs *iradix.Tree[uint64] // tenant
	// collapsed names the proxies whose transitions did not fit: each gets
	// one event with its state when there is room again.
	collapsed *iradix.Tree[*fsmpb.ResourceKey] // tenant, id

	// bytes counts all retained events. Invariant: pending counts those above
	// archived, pendingProxies the ones of proxies among them; both are 0
	// while the archive is off.
	bytes, pending, pendingProxies uint64
}

// kept is a retained event with its size, which counts when it comes, is archived
// and goes.
type kept struct {
	*fsmpb.Event
	size uint64
}

func keptOf(ev *fsmpb.Event) kept { return kept{ev, uint64(EventSize(ev))} }

func newOutbox() outbox {
	return outbox{
		settings:   &fsmpb.ArchiveSettings{},
		events:     iradix.New[kept](),
		tenantSeqs: iradix.New[uint64](),
		collapsed:  iradix.New[*fsmpb.ResourceKey](),
	}
}

// Seq returns the sequence number of the last event.
func (s *State) Seq() uint64 { return s.outbox.seq }

// TenantSeq returns the number of a tenant's last event.
func (s *State) TenantSeq(tenant string) uint64 {
	n, _ := s.outbox.tenantSeqs.Get(key(tenant))
	return n
}

// Archive returns the archive's settings.
func (s *State) Archive() *fsmpb.ArchiveSettings { return s.outbox.settings }

// ArchivedSeq returns the last sequence that the archive has acknowledged.
func (s *State) ArchivedSeq() uint64 { return s.outbox.archived }

// OutboxBytes returns the size of the events that the archive has not
// acknowledged; 0 while it is off.
func (s *State) OutboxBytes() uint64 { return s.outbox.pending }

// OutboxProxyBytes returns the size of those among them that a crowd of proxies
// causes by itself, which may have half of the bound.
func (s *State) OutboxProxyBytes() uint64 { return s.outbox.pendingProxies }

// CollapsedProxies returns how many proxies have transitions that did not fit.
func (s *State) CollapsedProxies() int { return s.outbox.collapsed.Len() }

// Unarchived returns the log time of the oldest event that the archive has not
// acknowledged, in nanoseconds since the Unix epoch, and whether there is one.
func (s *State) Unarchived() (at int64, ok bool) {
	for ev := range s.Events(s.ArchivedSeq()) {
		return ev.At, true
	}
	return 0, false
}

// FirstSeq returns the oldest sequence that Events still yields, one above
// Seq when there is none.
func (s *State) FirstSeq() uint64 {
	if k, ok := first(s.outbox.events, nil); ok {
		return k.Seq
	}
	return s.outbox.seq + 1
}

// Events yields the retained events above a sequence, in order.
func (s *State) Events(after uint64) iter.Seq[*fsmpb.Event] {
	return func(yield func(*fsmpb.Event) bool) {
		for k := range values(s.outbox.events, nil, string(numberKey(after))) {
			if !yield(k.Event) {
				return
			}
		}
	}
}

// EventSize returns what an event counts against the outbox's bounds, in
// bytes.
func EventSize(ev *fsmpb.Event) int { return proto.Size(ev) }

// isTransition reports whether an event is one that a crowd of proxies can
// cause by itself.
func isTransition(ev *fsmpb.Event) bool {
	switch ev.Data.(type) {
	case *fsmpb.Event_ProxyConnected, *fsmpb.Event_ProxyDisconnected,
		*fsmpb.Event_ProxyRejected, *fsmpb.Event_ProxyRecovered, *fsmpb.Event_ConvergenceRecorded:
		return true
	}
	return false
}

// full reports whether configuration writes must be refused.
func (o *outbox) full() bool {
	return o.settings.Enabled && o.settings.Overflow == fsmpb.ArchiveSettings_BLOCK &&
		o.pending >= o.settings.MaxOutboxBytes
}

// proxiesFull reports whether transitions of proxies must collapse.
func (o *outbox) proxiesFull() bool {
	return o.settings.Enabled && o.pendingProxies >= o.settings.MaxOutboxBytes/2
}

// searchFresh bounds the search for a tenant's last event among the fresh ones.
const searchFresh = 32

// add numbers and keeps an event.
func (o *outbox) add(ev *fsmpb.Event) {
	o.seq++
	ev.Seq = o.seq
	if ev.Tenant != "" {
		ev.TenantSeq = o.tenantSeq(ev.Tenant) + 1
	}
	k := keptOf(ev)
	o.fresh = append(o.fresh, k)
	o.count(k)
}

// tenantSeq returns the number of a tenant's last event.
func (o *outbox) tenantSeq(tenant string) uint64 {
	for i := len(o.fresh) - 1; i >= max(0, len(o.fresh)-searchFresh); i-- {
		if o.fresh[i].Tenant == tenant {
			return o.fresh[i].TenantSeq
		}
	}
	if len(o.fresh) > searchFresh {
		o.settle()
	}
	n, _ := o.tenantSeqs.Get(key(tenant))
	return n
}

// settle puts the fresh events into the trees.
func (o *outbox) settle() {
	if len(o.fresh) == 0 {
		return
	}
	events, seqs := o.events.Txn(), o.tenantSeqs.Txn()
	for _, k := range o.fresh {
		events.Insert(numberKey(k.Seq), k)
		if k.Tenant != "" {
			seqs.Insert(key(k.Tenant), k.TenantSeq)
		}
	}
	o.events, o.tenantSeqs, o.fresh = events.Commit(), seqs.Commit(), nil
}

// keep takes over an event that has its number.
func (o *outbox) keep(ev *fsmpb.Event) {
	k := keptOf(ev)
	o.events, _, _ = o.events.Insert(numberKey(ev.Seq), k)
	o.count(k)
}

func (o *outbox) count(k kept) {
	o.bytes += k.size
	if o.settings.Enabled && k.Seq > o.archived {
		o.pend(k)
	}
}

func (o *outbox) pend(k kept) {
	o.pending += k.size
	if isTransition(k.Event) {
		o.pendingProxies += k.size
	}
}

// recount sets the counters of pending events anew.
func (o *outbox) recount() {
	o.settle()
	o.pending, o.pendingProxies = 0, 0
	if !o.settings.Enabled {
		return
	}
	for k := range values(o.events, nil, string(numberKey(o.archived))) {
		o.pend(k)
	}
}

// acknowledge marks the events through a sequence as archived.
func (o *outbox) acknowledge(through uint64) {
	o.settle()
	for k := range values(o.events, nil, string(numberKey(o.archived))) {
		if k.Seq > through {
			break
		}
		o.unpend(k)
	}
	o.archived = through
}

func (o *outbox) unpend(k kept) {
	o.pending -= k.size
	if isTransition(k.Event) {
		o.pendingProxies -= k.size
	}
}

// trim drops what need not be retained at a log time.
func (o *outbox) trim(now int64) {
	o.settle()
	events, left := o.events.Txn(), o.events.Len()
	for {
		_, k, ok := events.Root().Minimum()
		if !ok || !o.droppable(k.Event, left, now) {
			break
		}
		if o.settings.Enabled && k.Seq > o.archived {
			o.unpend(k)
		}
		o.bytes -= k.size
		events.Delete(numberKey(k.Seq))
		left--
	}
	if left < o.events.Len() {
		o.events = events.Commit()
	}
}

// droppable decides about the oldest of some events.
func (o *outbox) droppable(ev *fsmpb.Event, count int, now int64) bool {
	if !o.settings.Enabled {
		return count > maxRecentEvents || o.bytes > maxRecentBytes
	}
	over := o.settings.Overflow == fsmpb.ArchiveSettings_GAP && o.pending > o.settings.MaxOutboxBytes
	if ev.Seq > o.archived {
		return over
	}
	// Those before a gap go too: the oldest is always the first to.
	window := o.settings.ReplayWindowMs * 1e6
	return over || now-ev.At > window || o.bytes-o.pending > maxReplayBytes
}
