package transport

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
)

// A Gatekeeper decides who may connect.
type Gatekeeper interface {
	// Admit returns why a connection is refused, or "".
	Admit(h *clusterpb.Hello) string
	// Welcome says who the node is.
	Welcome() *clusterpb.Welcome
	// Believe returns why whoever answered a call is not believed, or "".
	Believe(w *clusterpb.Welcome) string
}

// Mux shares one listener between Raft and RPC.
type Mux struct {
	ln   net.Listener
	gate Gatekeeper
	log  *slog.Logger

	raft, rpc *queue

	mu    sync.Mutex
	conns map[net.Conn]struct{} // that have not said hello yet
	wg    sync.WaitGroup
}

// NewMux makes a Mux that owns ln.
func NewMux(ln net.Listener, gate Gatekeeper, log *slog.Logger) *Mux {
	return &Mux{
		ln: ln, gate: gate, log: log,
		raft: newQueue(ln.Addr()), rpc: newQueue(ln.Addr()),
		conns: map[net.Conn]struct{}{},
	}
}

// Raft and RPC return the connections of each kind.
func (m *Mux) Raft() net.Listener { return m.raft }

// RPC returns the listener for gRPC.
func (m *Mux) RPC() net.Listener { return m.rpc }

// Run accepts until ctx ends; then it closes the listener.
func (m *Mux) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, m.Close)
	defer stop()
	defer m.wg.Wait()
	defer m.Close()
	for {
		conn, err := m.ln.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			m.log.Warn("cannot accept on the Raft port", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		if !m.track(conn, true) {
			conn.Close()
			continue
		}
		m.wg.Go(func() { m.greet(conn) })
	}
}

// greet reads the hello and hands the connection on.
func (m *Mux) greet(conn net.Conn) {
	defer m.track(conn, false)
	h, err := receiveHello(conn)
	if err != nil {
		m.log.Debug("connection to the Raft port did not say hello", "remote", conn.RemoteAddr().String(), "error", err)
		conn.Close()
		return
	}
	welcome := m.gate.Welcome()
	welcome.Refusal = m.gate.Admit(h)
	if err := writeMessage(conn, welcome); err != nil || welcome.Refusal != "" {
		m.log.Debug("refused a connection", "source", h.Source, "target", h.Target, "reason", welcome.Refusal)
		conn.Close()
		return
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		conn.Close()
		return
	}
	to := m.rpc
	if h.Kind == clusterpb.Hello_RAFT {
		to = m.raft
	}
	to.put(conn)
}

// track notes a connection whose hello is awaited; false once closed.
func (m *Mux) track(conn net.Conn, on bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conns == nil {
		return false
	}
	if on {
		m.conns[conn] = struct{}{}
	} else {
		delete(m.conns, conn)
	}
	return true
}

// Close ends Run.
func (m *Mux) Close() {
	m.ln.Close()
	m.raft.Close()
	m.rpc.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	for conn := range m.conns {
		conn.Close()
	}
	m.conns = nil
}

// queue is a net.Listener fed by a Mux.
type queue struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newQueue(addr net.Addr) *queue {
	return &queue{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

func (q *queue) put(conn net.Conn) {
	select {
	case q.conns <- conn:
	case <-q.done:
		conn.Close()
	}
}

// Accept implements net.Listener.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case conn := <-q.conns:
		return conn, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

// Addr implements net.Listener.
func (q *queue) Addr() net.Addr { return q.addr }
