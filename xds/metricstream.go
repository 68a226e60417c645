package xds

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"time"

	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/service/metrics/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

// Metrics takes what proxies measure of themselves.
type Metrics interface {
	// Open begins a stream of a proxy, as the replicated state has it. An error,
	// which the proxy is told, says that there are too many.
	Open(tenant, fleet, proxy string) (MetricStream, error)
}

// MetricStream takes what comes on one stream, on the goroutine that receives
// it. It must not block.
type MetricStream interface {
	// Take takes an encoded StreamMetricsMessage, which is valid until it returns,
	// and the time at which it came. An error says that it is none.
	Take(message []byte, now time.Time) error
	// Close ends the stream.
	Close()
}

// measured is a message of the metrics service as it came.
type measured struct{ raw mem.BufferSlice }

// metricsDesc describes the metrics service, with its messages left as bytes.
func metricsDesc(s *Server) *grpc.ServiceDesc {
	of := metricsv3.MetricsService_ServiceDesc
	return &grpc.ServiceDesc{
		ServiceName: of.ServiceName, HandlerType: (*any)(nil), Metadata: of.Metadata,
		Streams: []grpc.StreamDesc{{
			StreamName: of.Streams[0].StreamName, ClientStreams: true,
			Handler: func(_ any, rpc grpc.ServerStream) error { return s.measure(rpc) },
		}},
	}
}

// measure is the life of one stream of metrics. It is no xDS stream: a proxy may
// open it to any node, and it counts for nothing when streams are spread.
func (s *Server) measure(rpc grpc.ServerStream) error {
	if s.deps.Metrics == nil {
		return status.Error(codes.Unimplemented, "this node keeps no metrics of proxies")
	}
	if s.draining.Load() {
		return errDraining()
	}
	late := s.awaitHello(rpc)
	defer late.Stop()
	var in measured
	if err := rpc.RecvMsg(&in); err != nil {
		return ended(err)
	}
	late.Stop()
	greeted(rpc.Context())
	first := in.bytes()
	id, err := s.measures(rpc.Context(), first)
	if err != nil {
		return err
	}
	to, err := s.deps.Metrics.Open(id.Tenant, id.Fleet, id.Proxy)
	if err != nil {
		return status.Error(codes.ResourceExhausted, err.Error())
	}
	defer to.Close()
	defer s.trackMeasuring(rpc)()
	for message := first; ; message = in.bytes() {
		if err := to.Take(message, time.Now()); err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		in.raw.Free()
		if err := rpc.RecvMsg(&in); errors.Is(err, io.EOF) {
			return rpc.SendMsg(&metricsv3.StreamMetricsResponse{})
		} else if err != nil {
			return err
		}
	}
}

// bytes returns the message in one piece.
func (m *measured) bytes() []byte {
	if len(m.raw) == 1 {
		return m.raw[0].ReadOnlyData()
	}
	whole := m.raw.MaterializeToBuffer(mem.DefaultBufferPool())
	m.raw.Free()
	m.raw = mem.BufferSlice{whole}
	return whole.ReadOnlyData()
}

// measures finds out whose stream it is by its first message. A proxy is known by
// its xDS streams; what others say of themselves is not kept.
func (s *Server) measures(ctx context.Context, message []byte) (Identity, error) {
	node, err := nodeOfMetrics(message)
	if err != nil {
		return Identity{}, err
	}
	id, _, err := s.identify(ctx, node)
	if err != nil {
		return Identity{}, err
	}
	st := s.reporter.state.Load()
	if st == nil {
		return Identity{}, status.Error(codes.Unavailable, "this node has no state yet")
	}
	if row, ok := st.Proxy(id.Tenant, id.Proxy); !ok || row.Fleet != id.Fleet {
		return Identity{}, status.Errorf(codes.FailedPrecondition,
			"proxy %q of fleet %q is not known: it has asked for no configuration yet", id.Proxy, id.Fleet)
	}
	return id, nil
}

// Fields of StreamMetricsMessage and of its identifier.
const (
	metricsIdentifier = 1
	identifierNode    = 1
)

// nodeOfMetrics returns the encoded node of a stream's first message.
func nodeOfMetrics(message []byte) ([]byte, error) {
	identifier, err := bytesField(message, metricsIdentifier)
	if err != nil {
		return nil, err
	}
	return bytesField(identifier, identifierNode)
}

// bytesField returns the last field of a number that is bytes, nil when there is
// none.
func bytesField(b []byte, number protowire.Number) (out []byte, err error) {
	err = eachField(b, func(num protowire.Number, v []byte) error {
		if num == number {
			out = v
		}
		return nil
	})
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return out, nil
}

// trackMeasuring notes a stream of metrics, to end it when the node drains.
func (s *Server) trackMeasuring(rpc grpc.ServerStream) (untrack func()) {
	number := s.numbers.Add(1)
	s.mu.Lock()
	s.measuring[number] = rpc
	s.mu.Unlock()
	if s.draining.Load() {
		endRPC(rpc, errDraining()) // it came while the others were told to go
	}
	return func() {
		s.mu.Lock()
		delete(s.measuring, number)
		s.mu.Unlock()
	}
}

// endMeasuring sends the streams of metrics to other nodes. They come back when
// their proxies next have something to tell, so that they need no steps.
func (s *Server) endMeasuring() {
	s.mu.Lock()
	open := slices.Collect(maps.Values(s.measuring))
	s.mu.Unlock()
	for _, rpc := range open {
		endRPC(rpc, errDraining())
	}
}
