package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
	"github.com/org/envoy-control-plane/fsm"
)

// confirmTimeout bounds one check with the other voters.
const confirmTimeout = time.Second

// slowRead is when a read that waits for the leader begins to look whether
// another one leads.
const slowRead = 100 * time.Millisecond

// reader confirms, on the leader, that it still leads. One check serves all
// reads that arrived before it began; a read that arrives during a check waits
// for the next.
//
// Raft's VerifyLeader is not used: it counts an answer to a heartbeat that was
// sent before the check, and it passes before the leader has committed an
// entry of its own term.
type reader struct {
	n    *Node
	in   chan *strongRead
	done chan struct{} // closed when run has returned
}

type strongRead struct {
	done chan struct{}
	// Set before done is closed.
	index uint64
	err   error
}

func newReader(n *Node) *reader {
	return &reader{n: n, in: make(chan *strongRead, 1024), done: make(chan struct{})}
}

// read returns an index that covers every write acknowledged before the call.
func (r *reader) read(ctx context.Context) (uint64, error) {
	x := &strongRead{done: make(chan struct{})}
	select {
	case r.in <- x:
	case <-ctx.Done():
		return 0, errReadTimeout
	case <-r.done:
		return 0, errNotLeader
	}
	select {
	case <-x.done:
		return x.index, x.err
	case <-ctx.Done():
		return 0, errReadTimeout
	case <-r.done:
		return 0, errNotLeader
	}
}

var errReadTimeout = fsm.Refusal(fsm.CodeTimeout, "no majority confirmed the read in time")

func (r *reader) run(ctx context.Context) error {
	defer close(r.done)
	for {
		select {
		case <-ctx.Done():
			return nil
		case x := <-r.in:
			batch := []*strongRead{x}
			for more := true; more; {
				select {
				case x := <-r.in:
					batch = append(batch, x)
				default:
					more = false
				}
			}
			index, err := r.n.confirm(ctx)
			for _, x := range batch {
				x.index, x.err = index, err
				close(x.done)
			}
		}
	}
}

// confirm returns the applied index if, after the call began, a majority of
// the voters was still in the term that this node leads in: then nobody has
// been elected in a later one, and nobody else acknowledges writes.
func (n *Node) confirm(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	rt := n.rt.Load()
	if rt == nil {
		return 0, errNotLeader
	}
	term, err := n.ownTerm(ctx, rt.raft)
	if err != nil {
		return 0, err
	}
	index := n.State().Index()
	var others []string
	voters, have := 0, 0
	for _, s := range rt.servers() {
		switch {
		case s.Suffrage != raft.Voter:
		case string(s.ID) == n.ident.ServerID():
			voters, have = voters+1, have+1
		default:
			voters, others = voters+1, append(others, string(s.ID))
		}
	}
	terms := make(chan uint64, len(others))
	for _, id := range others {
		go func() { terms <- askTerm(ctx, rt.peers, id) }()
	}
	for left := len(others); have < voters/2+1; left-- {
		if left == 0 {
			return 0, errNotLeader
		}
		switch got := <-terms; {
		case got == term:
			have++
		case got > term:
			return 0, errNotLeader
		}
	}
	if rt.raft.CurrentTerm() != term {
		return 0, errNotLeader
	}
	return index, nil
}

// ownTerm waits until the node has committed an entry of the term it leads in.
func (n *Node) ownTerm(ctx context.Context, r *raft.Raft) (uint64, error) {
	for {
		committed, changed := n.lead.get()
		switch term := r.CurrentTerm(); {
		case r.State() != raft.Leader:
			return 0, errNotLeader
		case committed == term:
			return term, nil
		}
		select {
		case <-changed:
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return 0, errReadTimeout
		}
	}
}

// askTerm returns the term of a server, 0 when it does not answer.
func askTerm(ctx context.Context, p *peers, serverID string) uint64 {
	client, err := p.to(serverID)
	if err != nil {
		return 0
	}
	reply, err := client.Confirm(ctx, &clusterpb.ConfirmRequest{})
	if err != nil || reply.ServerId != serverID {
		return 0
	}
	return reply.Term
}

// ReadIndex returns an index that a majority has confirmed after the call
// began: a state that has reached it holds every write acknowledged before.
func (n *Node) ReadIndex(ctx context.Context) (uint64, error) {
	deadline := time.Now().Add(n.cfg.Failover)
	for {
		index, err := n.readIndexOnce(ctx)
		if err == nil {
			return index, nil
		}
		if time.Now().After(deadline) || !pause(ctx, 10*time.Millisecond) {
			if code := fsm.CodeOf(err); code == fsm.CodeTimeout {
				return 0, err
			}
			return 0, fsm.Refusal(fsm.CodeNoLeader, "no leader at present to confirm the read")
		}
	}
}

func (n *Node) readIndexOnce(ctx context.Context) (uint64, error) {
	rt := n.rt.Load()
	if rt == nil {
		return 0, errNoLeader
	}
	if rt.raft.State() == raft.Leader {
		return rt.reader.read(ctx)
	}
	leader := n.leaderServer()
	if leader == "" || leader == n.ident.ServerID() {
		return 0, errNoLeader
	}
	client, err := rt.peers.to(leader)
	if err != nil {
		return 0, fmt.Errorf("read index: %w", err)
	}
	// A leader that hangs has a successor soon, who is asked then.
	ctx, cancel := context.WithTimeout(ctx, 2*confirmTimeout)
	defer cancel()
	defer time.AfterFunc(slowRead, func() { n.awaitSuccessor(ctx, leader, cancel) }).Stop()
	reply, err := client.ReadIndex(ctx, &clusterpb.ReadIndexRequest{})
	if err != nil {
		return 0, fmt.Errorf("read index: %w", err)
	}
	return reply.Index, errorOf(reply.Outcome)
}

// awaitSuccessor calls abandon once another one leads. Unlike a write, a read
// can be asked again at once.
func (n *Node) awaitSuccessor(ctx context.Context, leader string, abandon func()) {
	for pause(ctx, 20*time.Millisecond) {
		if now := n.leaderServer(); now != "" && now != leader {
			abandon()
			return
		}
	}
}
