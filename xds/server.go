package xds

import (
	"context"
	"hash/maphash"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
)

// Server serves xDS to proxies. Its exported methods are safe for concurrent
// use.
type Server struct {
	config    Config
	deps      Deps
	log       *slog.Logger
	metrics   *metrics
	kinds     *kinds
	subs      *subscriptions
	hub       *hub
	dirt      *dirt
	seen      *watermark
	encoder   *encoder
	reporter  *reporter
	beats     *beats
	seed      maphash.Seed
	budget    *budget
	admission *admission
	conns     *conns

	// statusTurns bounds the answers about clients that are made at once.
	statusTurns chan struct{}

	numbers  atomic.Uint64 // of streams
	draining atomic.Bool
	drains   chan time.Duration // requests, capacity 1
	leave    func()             // closes leaving, once
	leaving  chan struct{}      // closed when Drain begins
	requests sync.Pool          // of requests that have been taken in
	// stale is the log index of a state that is served without knowing
	// whether there are later ones; 0 when that is known.
	stale atomic.Uint64
	// vain is the log index that a stream has waited for in vain; 0: none has.
	vain atomic.Uint64

	mu   sync.Mutex
	open map[uint64]*stream
	// measuring are the streams of metrics.
	measuring map[uint64]grpc.ServerStream
}

// New returns a server that has no state yet: streams connect and wait. Run
// starts what it does in the background.
func New(c Config, d Deps) *Server {
	c = c.withDefaults()
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		config: c, deps: d, log: d.Log, metrics: newMetrics(d.Registry),
		subs: newSubscriptions(), dirt: newDirt(), seen: newWatermark(),
		seed: maphash.MakeSeed(), drains: make(chan time.Duration, 1), leaving: make(chan struct{}), open: map[uint64]*stream{}, measuring: map[uint64]grpc.ServerStream{}, statusTurns: make(chan struct{}, maxStatusAtOnce),
	}
	s.kinds = newKinds(s.metrics)
	s.leave = sync.OnceFunc(func() { close(s.leaving) })
	v := newVault(d)
	s.hub = newHub(s.kinds, v, s.metrics)
	s.encoder = &encoder{identifier: c.NodeID, metrics: s.metrics, vault: v}
	s.reporter = newReporter(c, d, s.metrics)
	s.beats = newBeats()
	s.budget = newBudget(c.DecodeBudget)
	s.conns = &conns{server: s, after: closeAfter}
	s.admission = newAdmission(c.Admitted, s.metrics.waiting)
	s.registerGauges()
	return s
}

// Run spreads changes, keeps resources alive and registers proxies until the context ends, and
// returns when its goroutines have.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { s.fanOut(ctx) })
	wg.Go(func() { s.reporter.run(ctx) })
	wg.Go(func() { s.beats.run(ctx) })
	wg.Go(func() { s.followSpreads(ctx) })
	wg.Go(func() { s.drainOnRequest(ctx) })
	if s.config.Balance {
		b := &balancer{server: s, shed: map[proxyKey]time.Time{}}
		wg.Go(func() { b.run(ctx) })
	}
	wg.Wait()
	return nil
}

// Buffers, windows and keepalive of a connection. A proxy's requests are small;
// with TLS gRPC keeps a read buffer for each connection. Windows that do not
// move save a ping for each request, by which gRPC measures the path; a stream's
// own grows to the size of a large request by itself.
const (
	readBufferSize  = 4 << 10
	streamWindow    = 64 << 10
	connWindow      = 4 << 20
	pingAfter       = 30 * time.Second
	pingTimeout     = 20 * time.Second
	minClientPing   = 5 * time.Second
	streamsPerConn  = 1000
	maxHeaderBytes  = 64 << 10
	maxFramesToSend = math.MaxInt32
)

// ServerOptions returns what the gRPC server that Register is called with
// must be made with, next to Credentials.
func (s *Server) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()),
		grpc.WaitForHandlers(true),
		grpc.MaxRecvMsgSize(s.config.MaxRecvMsgSize),
		grpc.MaxSendMsgSize(maxFramesToSend),
		grpc.ReadBufferSize(readBufferSize),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connWindow),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.MaxConcurrentStreams(streamsPerConn),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingAfter, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: minClientPing, PermitWithoutStream: true,
		}),
	}
}

// Streams returns how many streams are open.
func (s *Server) Streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

func (s *Server) track(st *stream) {
	s.mu.Lock()
	s.open[st.number] = st
	s.mu.Unlock()
	s.metrics.streams.WithLabelValues(st.protocol.String()).Inc()
}

func (s *Server) untrack(st *stream) {
	s.mu.Lock()
	delete(s.open, st.number)
	s.mu.Unlock()
	s.metrics.streams.WithLabelValues(st.protocol.String()).Dec()
}
