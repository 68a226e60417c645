package xds

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// serve is the life of one stream; gRPC calls it on the stream's goroutine.
// only is the type of a single service, empty for the aggregated one.
func (s *Server) serve(rpc grpc.ServerStream, p protocol, only string) error {
	if s.draining.Load() {
		return errDraining()
	}
	in := &inbox{server: s, delta: p == delta}
	defer in.done()
	if err := s.greet(rpc, in); err != nil {
		return ended(err)
	}
	admitted, err := s.admission.enter(rpc.Context())
	if err != nil {
		return status.FromContextError(err).Err()
	}
	defer admitted()
	if s.draining.Load() {
		return errDraining()
	}
	if err := in.request.unpack(); err != nil {
		return err
	}
	st, hello, err := s.begin(rpc, p, only, in.request)
	if err != nil {
		return err
	}
	in.stream = st
	s.track(st)
	s.reporter.connected(st, hello)
	if s.draining.Load() {
		st.end(errDraining()) // it came while the others were told to go
	}
	err = st.read(in, admitted)
	if reason := st.close(); reason != nil {
		err = reason
	}
	s.untrack(st)
	s.reporter.disconnected(st, reasonOf(rpc.Context(), err))
	return err
}

// greet receives the first request, which must come within a while: before it
// nobody knows whose stream it is.
func (s *Server) greet(rpc grpc.ServerStream, in *inbox) error {
	late := s.awaitHello(rpc)
	defer late.Stop()
	if err := rpc.RecvMsg(in); err != nil {
		return err
	}
	greeted(rpc.Context())
	return s.reserve(rpc.Context(), in.request)
}

// awaitHello ends a stream that says nothing for a while, unless it is stopped.
func (s *Server) awaitHello(rpc grpc.ServerStream) *time.Timer {
	wait := s.config.HelloTimeout
	return time.AfterFunc(wait, func() {
		endRPC(rpc, status.Errorf(codes.DeadlineExceeded, "no request within %v", wait))
	})
}

// begin makes the record of a stream out of its first request.
func (s *Server) begin(rpc grpc.ServerStream, p protocol, only string, r *request) (*stream, *hello, error) {
	id, h, err := s.identify(rpc.Context(), r.node)
	if err != nil {
		return nil, nil, err
	}
	st := &stream{
		server: s, rpc: rpc, number: s.numbers.Add(1), protocol: p, id: id, since: time.Now(),
		ttl: h.ttl && (p == delta || h.wrapped),
	}
	if only != "" {
		st.only = s.kinds.of(only)
	}
	if from, ok := peer.FromContext(rpc.Context()); ok && from.Addr != nil {
		st.peer = from.Addr.String()
	}
	s.hub.join(fleetKey{id.Tenant, id.Fleet}, st)
	return st, h, nil
}

// read takes in requests, beginning with the one that was read already, until
// the stream ends. The first answer may not wait for the proxy: others wait to
// be admitted.
func (st *stream) read(in *inbox, admitted func()) error {
	for first := true; ; first = false {
		st.catchUp(in.request.initial)
		now := time.Now()
		err := st.handle(in.request, now)
		in.done()
		if err != nil {
			return err
		}
		st.pumpAt(now, !first)
		if first {
			admitted()
		}
		if err := st.server.receive(st.rpc, in); err != nil {
			return ended(err)
		}
	}
}

// ended turns what RecvMsg returned into what the handler returns.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func errDraining() error { return status.Error(codes.Unavailable, "draining") }

// reasonOf says in a word why a stream ended.
func reasonOf(ctx context.Context, err error) string {
	switch {
	case err == nil:
		return "closed by the proxy"
	case status.Code(err) == codes.Canceled || ctx.Err() != nil && status.Code(err) != codes.Unavailable:
		return "connection lost"
	}
	return status.Convert(err).Message()
}
