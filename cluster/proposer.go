package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/org/envoy-control-plane/cluster/store"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

const (
	// maxInFlight bounds the entries that wait for their commit. What comes
	// meanwhile goes together in the next one: fewer entries are fewer syncs.
	maxInFlight = 2
	// applyTimeout is how long Raft's main loop may be busy elsewhere.
	applyTimeout = 2 * time.Second
	// drainTime is how long a stop waits for entries in flight.
	drainTime = 2 * time.Second
)

// proposer is the leader's one way into the log. It puts the commands that
// wait at the same moment into one entry, under one stamp, and keeps few
// entries in flight. It never waits for more commands to come.
//
// Invariant: a proposal that was withdrawn, or answered with not_leader, is in
// no entry.
type proposer struct {
	intake
	n *Node
	// busy is held while an entry is made; who holds it stops the intake.
	busy     turn
	free     chan struct{} // holds one for each entry in flight, and the next
	inFlight chan *flight
	flying   atomic.Int64
	stamp    int64 // of the newest entry of this process
}

type flight struct {
	future    raft.ApplyFuture
	proposals []*proposal
	began     time.Time
}

func newProposer(n *Node) *proposer {
	return &proposer{intake: newIntake(), n: n, busy: newTurn(), free: make(chan struct{}, maxInFlight), inFlight: make(chan *flight, maxInFlight)}
}

// run makes entries until ctx ends.
func (p *proposer) run(ctx context.Context) error {
	defer close(p.inFlight)
	go p.land()
	for {
		select {
		case <-ctx.Done():
			return nil
		case p.free <- struct{}{}:
		}
		select {
		case <-ctx.Done():
			return nil
		case first := <-p.in:
			p.busy.Lock()
			f := p.entry(p.collect(first))
			p.busy.Unlock()
			if f == nil {
				<-p.free
				continue
			}
			p.inFlight <- f
		}
	}
}

// entry hands a batch to Raft. Raft takes it from an unbuffered channel: an
// error of the enqueueing means that it is in no log.
func (p *proposer) entry(batch []*proposal) *flight {
	rt := p.n.rt.Load()
	if len(batch) == 0 {
		return nil
	}
	if rt == nil || rt.raft.State() != raft.Leader {
		answerAll(batch, errNotLeader)
		return nil
	}
	if err := p.n.noRoom(rt); err != nil {
		answerAll(batch, err)
		return nil
	}
	if err := p.nextStamp(); err != nil {
		answerAll(batch, err)
		return nil
	}
	p.n.metrics.entryCommands.Observe(float64(len(batch)))
	p.flying.Add(1)
	return &flight{
		proposals: batch, began: time.Now(), future: rt.raft.Apply(encodeEntry(p.stamp, batch), applyTimeout),
	}
}

// nextStamp reads the clock. A stamp is never below the last one; a clock
// that is far off stamps nothing.
func (p *proposer) nextStamp() error {
	last := max(p.stamp, p.n.State().Stamp())
	now := p.n.deps.now().UnixNano()
	bound := int64(p.n.cfg.MaxSkew)
	if last-now > bound {
		return fsm.Refusal(fsm.CodeUnavailable, "the leader's clock is %s behind the log; it stamps nothing until it is right",
			time.Duration(last-now).Round(time.Second))
	}
	if skew := p.n.skew.Load(); skew > bound {
		return fsm.Refusal(fsm.CodeUnavailable, "the leader's clock is %s ahead of the other nodes'; it stamps nothing until it is right",
			time.Duration(skew).Round(time.Second))
	}
	p.stamp = max(last, now)
	return nil
}

// encodeEntry writes an Entry around commands that are encoded already.
func encodeEntry(stamp int64, batch []*proposal) []byte {
	size := 16
	for _, x := range batch {
		size += len(x.body) + 8
	}
	b := make([]byte, 0, size)
	b = protowire.AppendTag(b, 1, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(stamp))
	for _, x := range batch {
		b = protowire.AppendTag(b, 2, protowire.BytesType)
		b = protowire.AppendBytes(b, x.body)
	}
	return b
}

// land answers the proposals of each entry when its future comes.
func (p *proposer) land() {
	for f := range p.inFlight {
		err := f.future.Error()
		switch {
		case err == nil:
			p.n.metrics.commitSeconds.Observe(time.Since(f.began).Seconds())
			answerResults(f)
		case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrEnqueueTimeout),
			errors.Is(err, store.ErrFull): // not even in the reserve: it leads no more
			answerAll(f.proposals, errNotLeader)
		default:
			answerAll(f.proposals, fmt.Errorf("%w: %w", errUnknown, err))
		}
		p.flying.Add(-1)
		<-p.free
	}
}

func answerResults(f *flight) {
	results, ok := f.future.Response().([]*fsmpb.Result)
	if !ok || len(results) != len(f.proposals) {
		answerAll(f.proposals, errUnknown)
		return
	}
	for i, x := range f.proposals {
		x.done <- outcome{result: results[i]}
	}
}

// hold stops the intake and waits until nothing is in flight, or ctx ends.
// What comes meanwhile waits; release lets it go on.
func (p *proposer) hold(ctx context.Context) (release func()) {
	p.busy.Lock()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for p.flying.Load() > 0 {
		select {
		case <-ctx.Done():
			return p.busy.Unlock
		case <-tick.C:
		}
	}
	return p.busy.Unlock
}

// stop ends the intake for good. Raft forgets futures when it shuts down, so
// those in flight get a while to come.
func (p *proposer) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	release := p.hold(ctx)
	p.close()
	release()
}
