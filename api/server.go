package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/klauspost/compress/gzhttp"

	"github.com/org/envoy-control-plane/api/feed"
	"github.com/org/envoy-control-plane/api/openapi"
	"github.com/org/envoy-control-plane/api/wire"
)

// Config is what an operator decides about the API.
type Config struct {
	// Version and Commit are of the build.
	Version, Commit string
	// JWTSecret verifies HS256 tokens; empty: no authentication.
	JWTSecret []byte
	// RequestLimit bounds the handling of a request; 30 s when zero. A wait
	// adds to it.
	RequestLimit time.Duration
	// EventStreams bounds how many streams of events are open at a time; 20,000
	// when zero.
	EventStreams int
	// EventPing is how often a stream shows that it is alive, 15 s when zero;
	// EventWrite how long a client may take to read on, 10 s when zero.
	EventPing, EventWrite time.Duration
	// DefaultPoll is how often a wait looks again; 50 ms when zero.
	DefaultPoll time.Duration
}

// Server answers the REST API.
type Server struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	auth    Authenticator
	router  *router
	metrics *metrics
	openapi []byte
	http    *http.Server

	// statuses are the looks at fleets that requests share.
	statuses *share[target, wire.FleetStatus]

	hub *feed.Hub
	// catchUps has room for the streams that may read the archive at a time.
	catchUps chan struct{}
	// sockets counts the connections that the HTTP server has given away.
	sockets sync.WaitGroup

	drain    sync.Once
	draining chan struct{} // closed when a stop begins
	stop     sync.Once
	stopped  chan struct{} // closed when Shutdown has ended
}

// New returns a Server. It listens nowhere and starts nothing.
func New(cfg Config, deps Deps) (*Server, error) {
	cfg.RequestLimit = cmp.Or(cfg.RequestLimit, 30*time.Second)
	cfg.DefaultPoll = cmp.Or(cfg.DefaultPoll, 50*time.Millisecond)
	cfg.EventStreams = cmp.Or(cfg.EventStreams, 20_000)
	cfg.EventPing = cmp.Or(cfg.EventPing, 15*time.Second)
	cfg.EventWrite = cmp.Or(cfg.EventWrite, 10*time.Second)
	doc, err := openapi.JSON()
	if err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	hub := feed.New(deps.Cluster, encodeEvent, cfg.EventStreams)
	m, err := newMetrics(deps.Registry, hub)
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	s := &Server{
		cfg: cfg, deps: deps, log: deps.Log, auth: deps.Auth,
		router: newRouter(routes()), metrics: m, openapi: doc, draining: make(chan struct{}), stopped: make(chan struct{}),
		statuses: newShare[target, wire.FleetStatus](), hub: hub, catchUps: make(chan struct{}, maxCatchUps),
	}
	if s.auth == nil {
		s.auth = newAuthenticator(cfg.JWTSecret)
	}
	handler, err := s.handler()
	if err != nil {
		return nil, err
	}
	s.http = &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(deps.Log.Handler(), slog.LevelDebug),
		ConnState:         m.connState,
	}
	return s, nil
}

func (s *Server) handler() (http.Handler, error) {
	compress, err := gzhttp.NewWrapper(
		gzhttp.MinSize(1024),
		gzhttp.ContentTypes([]string{wire.MediaJSON, wire.MediaProblem}),
	)
	if err != nil {
		return nil, fmt.Errorf("set up compression: %w", err)
	}
	return compress(http.HandlerFunc(s.serve)), nil
}

// Handler returns the whole API, for a listener of the caller's.
func (s *Server) Handler() http.Handler { return s.http.Handler }

// Serve answers connections of a listener until Shutdown is called or the
// context ends, and closes the listener. It returns after requests in flight
// have been answered or, once the context has ended, cut off.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(ln) }()
	select {
	case err := <-served:
		if !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve the API: %w", err)
		}
		select {
		case <-s.stopped:
		case <-ctx.Done():
			_ = s.http.Close() // the context's end asked for it
		}
		return nil
	case <-ctx.Done():
		s.startDraining()
		_ = s.http.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve the API: %w", err)
		}
		return nil
	}
}

// Shutdown takes no new requests, tells waiting ones to ask another node and
// lets the others finish until the context ends; then it cuts them off.
func (s *Server) Shutdown(ctx context.Context) error {
	s.startDraining()
	defer s.stop.Do(func() { close(s.stopped) })
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close() // the first error says it
		return fmt.Errorf("shut the API down: %w", err)
	}
	closed := make(chan struct{})
	go func() {
		s.sockets.Wait()
		close(closed)
	}()
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close the event sockets: %w", ctx.Err())
	}
}

func (s *Server) startDraining() { s.drain.Do(func() { close(s.draining) }) }

func (s *Server) health(*call) (*answer, error) {
	return &answer{status: http.StatusOK, body: wire.Health{Status: "ok"}}, nil
}

// ready answers 200 once every part is OK.
func (s *Server) ready(*call) (*answer, error) {
	body := wire.Ready{Ready: true, Node: s.deps.Cluster.NodeID(), Parts: []wire.Part{}}
	if s.deps.Ready != nil {
		body.Parts = append(body.Parts, s.deps.Ready()...)
	}
	for _, p := range body.Parts {
		body.Ready = body.Ready && p.OK
	}
	status := http.StatusOK
	if !body.Ready {
		status = http.StatusServiceUnavailable
	}
	return &answer{status: status, body: body}, nil
}

func (s *Server) version(*call) (*answer, error) {
	return &answer{status: http.StatusOK, body: wire.Version{
		Version: s.cfg.Version, Commit: s.cfg.Commit, Go: runtime.Version(),
	}}, nil
}

func (s *Server) openAPI(*call) (*answer, error) {
	return &answer{status: http.StatusOK, raw: s.openapi}, nil
}
