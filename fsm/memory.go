package fsm

import (
	"bytes"

	iradix "github.com/hashicorp/go-immutable-radix/v2"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Bounds of the answers to repeated writes: whichever ends first.
const (
	maxRemembered    = 100_000
	maxRememberedFor = int64(24 * 3600 * 1e9)
)

// memory holds the results of recent writes that carried an idempotency key.
type memory struct {
	last  uint64                          // order of the newest
	byKey *iradix.Tree[*fsmpb.Remembered] // tenant, subject, key
	order *iradix.Tree[*fsmpb.Remembered] // order of arrival
}

func newMemory() memory {
	return memory{byKey: iradix.New[*fsmpb.Remembered](), order: iradix.New[*fsmpb.Remembered]()}
}

func (m *memory) add(r *fsmpb.Remembered) {
	m.last++
	m.byKey, _, _ = m.byKey.Insert(key(r.Tenant, r.Subject, r.Key), r)
	m.order, _, _ = m.order.Insert(numberKey(m.last), r)
}

// trim forgets what is too old at a log time, and the oldest beyond the
// bound.
func (m *memory) trim(now int64) {
	for m.order.Len() > 0 {
		k, oldest, _ := m.order.Root().Minimum()
		if m.order.Len() <= maxRemembered && now-oldest.At < maxRememberedFor {
			return
		}
		m.order, _, _ = m.order.Delete(k)
		m.byKey, _, _ = m.byKey.Delete(key(oldest.Tenant, oldest.Subject, oldest.Key))
	}
}

// recall returns the answer that a repeated command gets, nil for a new one.
func (m *memory) recall(tenant string, c *fsmpb.Command) *fsmpb.Result {
	r, ok := m.byKey.Get(key(tenant, c.By, c.GetIdempotency().GetKey()))
	if !ok {
		return nil
	}
	if !bytes.Equal(r.RequestHash, c.Idempotency.RequestHash) {
		return Refusal(CodeIdempotencyMismatch,
			"idempotency key %q was used for another request", r.Key).result()
	}
	again := proto.CloneOf(r.Result)
	again.Replayed = true
	return again
}

// remembers reports whether a result is an answer for good: applied, or
// refused because of what was asked and not because of a passing state.
func remembers(r *fsmpb.Result) bool {
	switch Code(r.Code) {
	case CodeOutboxFull, CodeReadOnly, CodeIdempotencyMismatch:
		return false
	}
	return true
}
