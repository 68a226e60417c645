package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
)

// forwarder is a follower's way to the leader: it sends the commands that wait
// at the same moment in one request. One is under way at a time; what comes
// meanwhile goes together in the next. Alone, a command goes at once.
type forwarder struct {
	intake
	n *Node
}

func newForwarder(n *Node) *forwarder { return &forwarder{intake: newIntake(), n: n} }

// run sends what comes until ctx ends; what is under way is then unknown.
func (f *forwarder) run(ctx context.Context) error {
	defer f.close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case first := <-f.in:
			if batch := f.collect(first); len(batch) > 0 {
				f.send(ctx, batch)
			}
		}
	}
}

// send has the leader decide a batch, and answers it.
func (f *forwarder) send(ctx context.Context, batch []*proposal) {
	rt, leader := f.n.rt.Load(), f.n.leaderServer()
	if rt == nil || leader == "" || leader == f.n.ident.ServerID() {
		answerAll(batch, errNoLeader)
		return
	}
	client, err := rt.peers.to(leader)
	if err != nil {
		answerAll(batch, fmt.Errorf("%w: %w", errNoLeader, err))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, forwardLimit)
	defer cancel()
	defer background(ctx, func(ctx context.Context) { f.n.whileLed(ctx, leader, cancel) })()
	if len(batch) == 1 {
		f.one(ctx, client, batch[0])
	} else {
		f.many(ctx, client, batch)
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		rt.peers.redial(leader)
	}
}

// forwardLimit bounds one request to the leader. A leader that leads answers
// in far less, on a slow disk too; gRPC itself gives a connection that has gone
// silent up only after 13 s, and no write leaves this node meanwhile.
const forwardLimit = 5 * time.Second

// one sends a single command.
func (f *forwarder) one(ctx context.Context, client clusterpb.PeerClient, x *proposal) {
	ctx, sent := tracked(ctx)
	reply, err := client.Propose(ctx, &clusterpb.ProposeRequest{Command: x.body})
	if err != nil {
		x.done <- outcome{err: unanswered(sent, err)}
		return
	}
	x.done <- replied(reply)
}

func (f *forwarder) many(ctx context.Context, client clusterpb.PeerClient, batch []*proposal) {
	request := &clusterpb.ProposeManyRequest{Commands: make([][]byte, len(batch))}
	for i, x := range batch {
		request.Commands[i] = x.body
	}
	tracking, sent := tracked(ctx)
	reply, err := client.ProposeMany(tracking, request)
	switch {
	case status.Code(err) == codes.Unimplemented: // an older binary, which did nothing
		var wg sync.WaitGroup
		for _, x := range batch {
			wg.Go(func() { f.one(ctx, client, x) })
		}
		wg.Wait()
	case err != nil:
		answerAll(batch, unanswered(sent, err))
	case len(reply.GetReplies()) != len(batch):
		answerAll(batch, fmt.Errorf("%w: %d answers to %d commands", errUnknown, len(reply.GetReplies()), len(batch)))
	default:
		for i, x := range batch {
			x.done <- replied(reply.GetReplies()[i])
		}
	}
}

// tracked returns a context whose request sets a mark once a byte of it is on
// its way.
func tracked(ctx context.Context) (context.Context, *atomic.Bool) {
	sent := &atomic.Bool{}
	return context.WithValue(ctx, sentKey{}, sent), sent
}

// unanswered is what is known of a request without an answer.
func unanswered(sent *atomic.Bool, err error) error {
	if sent.Load() {
		return fmt.Errorf("%w: %w", errUnknown, err)
	}
	return fmt.Errorf("%w: %w", errNoLeader, err)
}

// replied is what the leader says.
func replied(r *clusterpb.ProposeReply) outcome {
	if err := errorOf(r.GetOutcome()); err != nil {
		return outcome{err: err}
	}
	if r.GetResult() == nil {
		return outcome{err: fmt.Errorf("%w: an empty answer", errUnknown)}
	}
	return outcome{result: r.GetResult()}
}

// abandonAfter is how long a request to a leader that has been replaced may
// still take: one that hangs, with its connection whole, never answers.
const abandonAfter = time.Second

// whileLed calls abandon once somebody else has led for a while.
func (n *Node) whileLed(ctx context.Context, leader string, abandon func()) {
	tick := time.NewTicker(abandonAfter / 4)
	defer tick.Stop()
	since := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if n.leaderServer() == leader {
				since = now
			} else if now.Sub(since) > abandonAfter {
				abandon()
				return
			}
		}
	}
}
