package xds

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxTypes bounds the resource types of one stream.
const maxTypes = 64

// stream is the record of one live xDS stream.
type stream struct {
	mu sync.Mutex
	// sending is the right to call SendMsg, which one goroutine has at a
	// time; again asks it to look once more before it gives the right back.
	sending, again, closed bool
	ttl                    bool // the proxy takes times to live
	queued                 bool // stands in the fan-out's queue; its alone
	protocol               protocol
	// types are ordered as a turn looks at them. Only the reader adds some.
	types []*subscribed
	// nameBytes is how much the names have that it subscribes to.
	nameBytes int
	// nonces counts the responses.
	nonces uint64
	// unacked is how many bytes of responses are not yet acknowledged. While
	// they fit into gRPC's write quota, sending does not block.
	unacked int
	server  *Server
	// only is the type of a single service; nil on an aggregated stream.
	only  *kind
	scope *scope
	rpc   grpc.ServerStream

	number uint64
	since  time.Time
	id     Identity
	peer   string
	// interest holds the type URLs subscribed to, for the fan-out to read
	// without a lock.
	interest atomic.Pointer[[]string]
	// inScope, inEndpoints and inSecrets are its places in rosters; guarded by
	// hub.mu.
	inScope, inEndpoints, inSecrets int
	// spread is the number of the last of the fleet's spreads that the stream
	// has done with, or that began before it came.
	spread atomic.Uint64
	timer  *time.Timer
	beatAt int64 // when beats wakes it
	// touched names the endpoints of the clusters that were sent before the
	// stream asked for endpoints.
	touched *subscription
	// reason is why the server ended the stream, nil when it did not.
	reason error
}

// subscribed is what a stream knows about one type that it subscribed to. What
// every turn looks at comes first: a change touches the records of all its
// streams once, and pays for each line of cache.
type subscribed struct {
	kind  *kind
	sub   *subscription
	group *group // of live types, else nil
	// wanted is what the subscription gets of set, which is the one looked at
	// last.
	set    *set
	wanted *content

	// sent is what the proxy has once it accepts what is under way; acked is
	// what it has accepted. Both are shared pointers.
	sent, acked *content
	// out is the one response under way.
	out *frame

	// forced names are sent again even if unchanged.
	forced *subscription
	// parked is the rejected frame whose content is not sent again until it
	// changes; parkedAt the content of the state at which it was last found
	// unchanged, with what may be sent in its place.
	parked    *frame
	candidate candidate
	// owed: an answer is due even if it is empty. refresh: everything is to
	// be sent again.
	owed, refresh bool
	// attempted: the proxy has answered or settled once since the stream
	// began.
	attempted bool
	// implicit: the wildcard came by a request without names.
	implicit bool
	// resumed: the proxy had accepted something before the stream began.
	resumed    bool
	lastNack   bool
	beatBodies bool // the proxy rejects heartbeats without bodies
	// claim is the version_info that a state-of-the-world stream began with.
	claim string

	outNonce  nonce
	outAt     time.Time
	prior     *content // what was sent before out
	lastNonce nonce    // of the newest response answered
	// list is the hash of the names of the last state-of-the-world request.
	list uint64
	// ackedRevision is the newest revision known to be accepted, for when
	// acked itself does not say.
	ackedRevision, sentRevision uint64

	lastSent, lastAcked string // versions, for reports
	sentAt, ackedAt     time.Time

	parkedAt, parkedTo *content
	rejected           *rejection
	// beatAt is when times to live were renewed last, in nanoseconds since the
	// Unix epoch. beatless is the content of which the proxy rejects all
	// heartbeats.
	beatAt   int64
	beatless *content
}

// candidate remembers the frame that was looked up last, so that a stream
// that waits at a gate does not look it up at every turn.
type candidate struct {
	from, to *content
	forced   *subscription
	must     bool
	frame    *frame
}

// rejection is a NACK as it is reported.
type rejection struct {
	version, detail string
	at              time.Time
}

func (st *stream) ads() bool { return st.only == nil }

// wants reports whether the stream subscribes to one of some types.
func (st *stream) wants(urls []string) bool {
	have := st.interest.Load()
	if have == nil {
		return false
	}
	for _, url := range urls {
		if slices.Contains(*have, url) {
			return true
		}
	}
	return false
}

// find returns what the stream knows of a type, nil before it asked.
func (st *stream) find(url string) *subscribed { return typed(st.types, url) }

func typed(types []*subscribed, url string) *subscribed {
	for _, t := range types {
		if t.kind.url == url {
			return t
		}
	}
	return nil
}

// role returns the type that plays a role, nil when it is not subscribed to.
func (st *stream) role(r role) *subscribed {
	for _, t := range st.types {
		if t.kind.role == r {
			return t
		}
	}
	return nil
}

// add begins a type.
func (st *stream) add(k *kind) (*subscribed, error) {
	if len(st.types) >= maxTypes {
		return nil, status.Errorf(codes.ResourceExhausted, "a stream subscribes to at most %d types", maxTypes)
	}
	t := &subscribed{kind: k}
	st.types = append(slices.Clone(st.types), t)
	slices.SortStableFunc(st.types, func(a, b *subscribed) int { return cmp.Compare(a.kind.order, b.kind.order) })
	urls := make([]string, 0, len(st.types))
	for _, t := range st.types {
		urls = append(urls, t.kind.url)
	}
	st.interest.Store(&urls)
	return t, nil
}

// subscribe makes sub, which the caller interned, the subscription to a type.
func (st *stream) subscribe(t *subscribed, sub *subscription) {
	if t.sub == sub {
		st.server.subs.release(sub)
		return
	}
	old, oldGroup := t.sub, t.group
	t.sub, t.set, t.wanted = sub, nil, nil
	st.nameBytes += sub.size() - old.size()
	if oldGroup != nil {
		st.server.hub.leaveGroup(oldGroup, st)
	}
	if t.kind.live {
		t.group = st.server.hub.joinGroup(t.kind, sub, st)
	}
	st.server.subs.release(old)
}

// current returns what the proxy is to have of a type now, nil when that is
// not known yet.
func (st *stream) current(t *subscribed, v *view) *content {
	if t.group != nil {
		return t.group.content.Load()
	}
	if v == nil {
		return nil
	}
	if s := v.set(t.kind); s != t.set {
		t.set, t.wanted = s, s.content(t.sub)
	}
	return t.wanted
}

// force adds names to those that are sent even if unchanged.
func (t *subscribed) force(names *subscription) { t.forced = names.with(t.forced) }

// close ends the record: nothing is sent any more, nothing is held. It returns
// why the server ended the stream, nil when it did not.
func (st *stream) close() (reason error) {
	st.mu.Lock()
	st.closed, reason = true, st.reason
	if st.timer != nil {
		st.timer.Stop()
	}
	types := st.types
	st.types = nil
	st.mu.Unlock()

	for _, t := range types {
		if t.group != nil {
			st.server.hub.leaveGroup(t.group, st)
		}
		st.server.subs.release(t.sub)
	}
	if st.ttl {
		st.server.beats.schedule(st, 0)
	}
	st.server.hub.leave(st.scope, st)
	return reason
}
