package cluster

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Bounds of what is put together from commands that wait at the same moment: a
// log entry, or a request to the leader. A single larger command goes alone.
const (
	maxBatchCommands = 1024
	maxBatchBytes    = 1 << 20
)

// intake takes commands one by one and hands them on in batches.
//
// Invariant: a proposal that was withdrawn is in no batch.
type intake struct {
	in   chan *proposal
	done chan struct{} // closed when no more batches are made
	once *sync.Once
}

const (
	queued int32 = iota
	taken
	withdrawn
)

type proposal struct {
	body  []byte // an encoded Command
	state atomic.Int32
	done  chan outcome // capacity 1
}

type outcome struct {
	result *fsmpb.Result
	err    error
}

func newIntake() intake {
	return intake{in: make(chan *proposal, maxBatchCommands), done: make(chan struct{}), once: &sync.Once{}}
}

// close ends the intake for good.
func (q *intake) close() { q.once.Do(func() { close(q.done) }) }

// submit hands an encoded command in and waits for what comes of it.
func (q *intake) submit(ctx context.Context, body []byte) (*fsmpb.Result, error) {
	x, err := q.put(ctx, body)
	if err != nil {
		return nil, err
	}
	return q.await(ctx, x)
}

// put hands an encoded command in. An error means that it is in no batch.
func (q *intake) put(ctx context.Context, body []byte) (*proposal, error) {
	x := &proposal{body: body, done: make(chan outcome, 1)}
	select {
	case q.in <- x:
		return x, nil
	case <-ctx.Done():
		return nil, errOutOfTime
	case <-q.done:
		return nil, errNotLeader
	}
}

// await waits for what comes of a proposal. Once time runs out it is withdrawn,
// or where that is too late, unknown.
func (q *intake) await(ctx context.Context, x *proposal) (*fsmpb.Result, error) {
	select {
	case o := <-x.done:
		return o.result, o.err
	case <-ctx.Done():
	case <-q.done:
	}
	if x.state.CompareAndSwap(queued, withdrawn) {
		if ctx.Err() == nil {
			return nil, errNotLeader
		}
		return nil, errOutOfTime
	}
	select {
	case o := <-x.done:
		return o.result, o.err
	default:
		return nil, errUnknown
	}
}

// collect returns the first proposal and those that wait behind it.
func (q *intake) collect(first *proposal) []*proposal {
	var batch []*proposal
	size := 0
	for next := first; ; {
		if next.state.CompareAndSwap(queued, taken) {
			batch = append(batch, next)
			size += len(next.body)
		}
		if len(batch) == maxBatchCommands || size >= maxBatchBytes {
			return batch
		}
		select {
		case next = <-q.in:
		default:
			return batch
		}
	}
}

func answerAll(batch []*proposal, err error) {
	for _, x := range batch {
		x.done <- outcome{err: err}
	}
}
