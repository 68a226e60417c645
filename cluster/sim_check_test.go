package cluster

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/deploy/history"
	"github.com/org/envoy-control-plane/fsm"
)

// hashEvery is how often, in entries, the states of the nodes are compared:
// hashing one costs more than making it.
const hashEvery = 16

// simChecks hold, all the time, what must never be otherwise.
type simChecks struct {
	mu      sync.Mutex
	leaders map[uint64]string // by term
	hashes  map[uint64]simHash
	errs    []error
}

type simHash struct {
	sum  [32]byte
	node string
}

func newSimChecks() *simChecks {
	return &simChecks{leaders: map[uint64]string{}, hashes: map[uint64]simHash{}}
}

// broken keeps what must not be.
func (c *simChecks) broken(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.errs) < 20 {
		c.errs = append(c.errs, fmt.Errorf(format, args...))
	}
}

// sent looks who leads: a term has one leader at most.
func (c *simChecks) sent(m *simMessage) {
	var term uint64
	switch r := m.command.(type) {
	case *raft.AppendEntriesRequest:
		term = r.Term
	case *raft.InstallSnapshotRequest:
		term = r.Term
	default:
		return
	}
	c.mu.Lock()
	was, known := c.leaders[term]
	c.leaders[term] = m.hello.Source
	c.mu.Unlock()
	if known && was != m.hello.Source {
		c.broken("term %d has two leaders: %s and %s", term, was, m.hello.Source)
	}
}

// reached compares the states at an index, and that a node's never goes back.
func (c *simChecks) reached(x *simNode, st *fsm.State) {
	if before := x.applied.Swap(st.Index()); before > st.Index() {
		c.broken("%s goes back from index %d to %d", x.host.id, before, st.Index())
	}
	if st.Index()%hashEvery == 0 && !x.crashed() {
		c.same(x.host.id, st)
	}
}

// same compares a state with the one that another node has at its index.
func (c *simChecks) same(node string, st *fsm.State) {
	sum, err := st.Hash()
	if err != nil {
		c.broken("hash the state of %s: %v", node, err)
		return
	}
	c.mu.Lock()
	was, known := c.hashes[st.Index()]
	c.hashes[st.Index()] = simHash{sum, node}
	c.mu.Unlock()
	if known && was.sum != sum {
		c.broken("the states of %s and %s differ at index %d", was.node, node, st.Index())
	}
}

// verdict is what the checks, and the history against the final state, say.
// It takes real time, in which virtual time must not go on.
func (s *simulation) verdict(drawing string) error {
	ops := s.history.Take()
	errs := slices.Clone(s.checks.errs)
	if s.final != nil {
		errs = append(errs, history.Present(ops, writersOf(s.final)))
	}
	errs = append(errs, history.Check(ops, drawing))
	return errors.Join(errs...)
}

// writersOf returns the revisions of all fleets by the operation that made them.
func writersOf(st *fsm.State) map[int][]uint64 {
	found := map[int][]uint64{}
	for f := range st.Fleets(fsm.DefaultTenant, "") {
		for r := range st.Revisions(fsm.DefaultTenant, f.Name, 0) {
			id := operationOf(r.Info.GetMessage())
			found[id] = append(found[id], r.Info.GetRevision())
		}
	}
	return found
}
