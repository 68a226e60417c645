package xds

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// subscription is what a stream asked for of one type: everything, names, or
// both. It is immutable and interned: streams that ask for the same hold the
// same pointer, and whatever is computed for it is computed once.
type subscription struct {
	wildcard bool
	names    []string // sorted, unique
	hash     uint64
	// list is the encoded list of names by which it is found, once two streams
	// have asked for it; guarded by the table. listHash is its hash.
	list     string
	listHash uint64
	// holders counts the streams that hold it; guarded by the table for the
	// way down to zero, read without it to see whether it is dead.
	holders atomic.Int64
}

// has reports whether a name is asked for by itself. A nil subscription has
// no name.
func (s *subscription) has(name string) bool {
	if s == nil {
		return false
	}
	_, ok := slices.BinarySearch(s.names, name)
	return ok
}

// nameOverhead is what a name costs beyond its bytes.
const nameOverhead = 16

// size returns the bytes of the names. A nil subscription has none.
func (s *subscription) size() int {
	if s == nil {
		return 0
	}
	n := nameOverhead * len(s.names)
	for _, name := range s.names {
		n += len(name)
	}
	return n
}

// with returns the names of both, for names that are not interned. Either may
// be nil.
func (s *subscription) with(o *subscription) *subscription {
	switch {
	case s == nil:
		return o
	case o == nil || s == o:
		return s
	}
	return &subscription{names: merge(s.names, o.names, nil)}
}

func (s *subscription) dead() bool { return s.holders.Load() == 0 }

func (s *subscription) equal(wildcard bool, names []string) bool {
	return s.wildcard == wildcard && slices.Equal(s.names, names)
}

// subscriptions interns subscriptions.
type subscriptions struct {
	mu     sync.Mutex
	byHash map[uint64][]*subscription
	byList map[uint64]*subscription
}

func newSubscriptions() *subscriptions {
	return &subscriptions{byHash: map[uint64][]*subscription{}, byList: map[uint64]*subscription{}}
}

// intern returns the one subscription to sorted, unique names. Each call is
// to be paired with a release.
func (t *subscriptions) intern(wildcard bool, names []string) *subscription {
	h := hashNames(wildcard, names)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.byHash[h] {
		if s.equal(wildcard, names) {
			s.holders.Add(1)
			return s
		}
	}
	s := &subscription{wildcard: wildcard, names: slices.Clone(names), hash: h}
	s.holders.Store(1)
	t.byHash[h] = append(t.byHash[h], s)
	return s
}

// listed returns the subscription to an encoded list of names with a hash, as
// intern does; nil when it has not been learnt.
func (t *subscriptions) listed(hash uint64, list []byte) *subscription {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.byList[hash]
	if s == nil || s.list != string(list) {
		return nil
	}
	s.holders.Add(1)
	return s
}

// maxLearnt bounds the lists that are kept, in bytes.
const maxLearnt = 1 << 20

// learn notes by which list a subscription that the caller holds was asked
// for, if others hold it too: then more may come.
func (t *subscriptions) learn(s *subscription, hash uint64, list []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(list) <= maxLearnt && s.holders.Load() > 1 && s.list == "" && t.byList[hash] == nil {
		s.list, s.listHash = string(list), hash
		t.byList[hash] = s
	}
}

// release gives back what intern returned. Nil is fine.
func (t *subscriptions) release(s *subscription) {
	if s == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.holders.Add(-1) > 0 {
		return
	}
	if s.list != "" {
		delete(t.byList, s.listHash)
	}
	left := slices.DeleteFunc(t.byHash[s.hash], func(o *subscription) bool { return o == s })
	if len(left) == 0 {
		delete(t.byHash, s.hash)
	} else {
		t.byHash[s.hash] = left
	}
}

func (t *subscriptions) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, ss := range t.byHash {
		n += len(ss)
	}
	return n
}

func hashNames(wildcard bool, names []string) uint64 {
	d := xxhash.New()
	if wildcard {
		_, _ = d.WriteString("*")
	}
	for _, n := range names {
		_, _ = d.Write([]byte{0})
		_, _ = d.WriteString(n)
	}
	return d.Sum64()
}

// sortedSet sorts names in place and drops doubles.
func sortedSet(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// merge returns a without the names in minus and with those in plus; all are
// sorted sets, the result is a new one.
func merge(a, plus, minus []string) []string {
	out := make([]string, 0, len(a)+len(plus))
	for len(a) > 0 || len(plus) > 0 {
		switch {
		case len(plus) == 0 || len(a) > 0 && a[0] < plus[0]:
			if _, gone := slices.BinarySearch(minus, a[0]); !gone {
				out = append(out, a[0])
			}
			a = a[1:]
		case len(a) > 0 && a[0] == plus[0]:
			a = a[1:]
		default:
			out = append(out, plus[0])
			plus = plus[1:]
		}
	}
	return out
}

// without returns the names of a that are not in b; both are sorted sets.
func without(a, b []string) []string {
	return merge(a, nil, b)
}
