package xds

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

const (
	// drainStep is the time between two steps of a drain, which are spread over
	// the configured time, at most half of what the context leaves.
	drainStep = 20 * time.Millisecond
	// maxReturn is how long proxies that were moved are given to be seen on
	// other nodes, before they are reported as disconnected.
	maxReturn = time.Second
	// maxTell bounds the wait for what is still to be reported: in a cluster
	// that stops as a whole nobody takes it, and the next start of the node makes
	// it good.
	maxTell = 3 * time.Second
)

// Drain refuses new streams, ends those that are open in small steps, so that
// their proxies do not all come to another node at once, and waits until
// their ends are reported. It returns when that is done or the context ends.
func (s *Server) Drain(ctx context.Context) {
	s.draining.Store(true)
	s.leave()
	s.reporter.letAll() // of proxies that went before
	spread := s.config.DrainTime
	if deadline, ok := ctx.Deadline(); ok {
		spread = min(spread, time.Until(deadline)/2)
	}
	if !s.handOver(ctx, spread) {
		return
	}
	until := func(bound time.Duration, done func() bool) {
		for ; bound > 0 && !done() && sleep(ctx, drainStep); bound -= drainStep {
		}
	}
	until(maxReturn, func() bool { return !s.reporter.holds() })
	s.reporter.letAll()
	until(maxTell, s.reporter.idle)
}

// handOver ends the streams in small steps over a time, while the server
// drains. It reports whether all have ended.
func (s *Server) handOver(ctx context.Context, spread time.Duration) bool {
	s.endMeasuring()
	steps := max(1, int(spread/drainStep))
	perStep := s.Streams()/steps + 1
	for s.draining.Load() {
		open := s.tracked()
		if len(open) == 0 {
			return true
		}
		peers := map[string]struct{}{}
		for _, st := range open[:min(perStep, len(open))] {
			st.end(errDraining())
			peers[st.peer] = struct{}{}
		}
		s.conns.closeSoon(peers)
		if !sleep(ctx, drainStep) {
			return false
		}
	}
	return false
}

// SetDraining has the server refuse new streams and hand those that it has
// over to other nodes, evenly within a time (0: DrainTime); off: take streams
// again.
func (s *Server) SetDraining(on bool, within time.Duration) {
	s.draining.Store(on)
	if !on {
		return
	}
	select {
	case s.drains <- cmp.Or(within, s.config.DrainTime):
	default: // one waits already
	}
}

// drainOnRequest hands streams over when asked, until the context ends.
func (s *Server) drainOnRequest(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case within := <-s.drains:
			if s.handOver(ctx, within) {
				s.log.Info("drained: all streams have ended")
			}
		}
	}
}

// Draining reports whether the server hands its streams over.
func (s *Server) Draining() bool { return s.draining.Load() }

func (s *Server) tracked() []*stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.open))
}

// ender is what gRPC's server streams can do beyond their public interface.
type ender interface{ WriteStatus(*status.Status) error }

// end ends the stream from outside of its handler, which is blocked reading
// and returns when gRPC has taken the stream down.
func (st *stream) end(err error) {
	st.mu.Lock()
	st.closed, st.reason = true, err
	st.mu.Unlock()
	endRPC(st.rpc, err)
}

func endRPC(rpc grpc.ServerStream, err error) {
	if t, ok := grpc.ServerTransportStreamFromContext(rpc.Context()).(ender); ok {
		_ = t.WriteStatus(status.Convert(err)) // a stream that is gone needs no status
		return
	}
	// What cannot be encoded ends a stream too, if with a less telling status.
	_ = rpc.SendMsg(unsendable{err})
}

// unsendable is a message that cannot be encoded.
type unsendable struct{ error }
