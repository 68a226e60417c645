package xds

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Bounds of requests that are taken in under the node's budget: those above a
// size, what may wait for their turn as a multiple of the budget, and how long.
const (
	largeRequest  = 64 << 10
	waitingShare  = 4
	maxBudgetWait = 10 * time.Second
)

// budget bounds how many bytes of large requests are decoded and handled at a
// time, for decoding takes several times their size: when a node dies,
// hundreds of proxies name all that they have to another one.
type budget struct {
	size    int64
	slots   *semaphore.Weighted
	waiting atomic.Int64 // bytes
}

func newBudget(size int) *budget {
	return &budget{size: int64(size), slots: semaphore.NewWeighted(int64(size))}
}

// acquire waits for room for some bytes; a request larger than all of the
// budget has it alone. The bytes are to be released.
func (b *budget) acquire(ctx context.Context, bytes int64) error {
	if b.slots.TryAcquire(bytes) {
		return nil
	}
	defer b.waiting.Add(-bytes)
	if b.waiting.Add(bytes) > waitingShare*b.size {
		return b.exhausted()
	}
	ctx, cancel := context.WithTimeout(ctx, maxBudgetWait)
	defer cancel()
	if b.slots.Acquire(ctx, bytes) != nil {
		return b.exhausted()
	}
	return nil
}

func (b *budget) exhausted() error {
	return status.Errorf(codes.ResourceExhausted,
		"this node takes in at most %d bytes of requests above %d bytes at a time (the decode budget); try again", b.size, int(largeRequest))
}

// receive reads the next request of a stream and decodes it.
func (s *Server) receive(rpc grpc.ServerStream, in *inbox) error {
	if err := rpc.RecvMsg(in); err != nil {
		return err
	}
	if err := s.reserve(rpc.Context(), in.request); err != nil {
		return err
	}
	return in.request.unpack()
}

// reserve has a large request wait for room in the budget; done gives it back.
func (s *Server) reserve(ctx context.Context, r *request) error {
	if r.raw.Len() <= largeRequest {
		return nil
	}
	bytes := min(int64(r.raw.Len()), s.budget.size)
	if err := s.budget.acquire(ctx, bytes); err != nil {
		return err
	}
	r.share = bytes
	return nil
}

// unpack decodes the request if that is still to be done.
func (r *request) unpack() error {
	if raw := r.raw; raw != nil {
		r.raw = nil
		r.parse(raw)
		raw.Free()
	}
	return r.err
}
