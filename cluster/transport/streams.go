package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
)

// ErrCut is the error of every dial while the node keeps quiet.
var ErrCut = errors.New("outgoing Raft traffic is cut: a write to the store hangs")

// maxDialTime keeps a heartbeat from hanging on a host that is gone.
const maxDialTime = 2 * time.Second

// Address makes a Raft server address. It holds the server id, so that it
// names one incarnation and no two servers share one.
func Address(serverID, hostPort string) raft.ServerAddress {
	return raft.ServerAddress(serverID + "@" + hostPort)
}

// SplitAddress returns what Address joined.
func SplitAddress(a raft.ServerAddress) (serverID, hostPort string) {
	serverID, hostPort, ok := strings.Cut(string(a), "@")
	if !ok {
		return "", string(a)
	}
	return serverID, hostPort
}

// Streams is Raft's stream layer over a Mux and a Dialer.
type Streams struct {
	in     net.Listener
	dialer *Dialer
	local  raft.ServerAddress
	// lookup returns the newest known host and port of a server, or "".
	lookup func(serverID string) string

	mu       sync.Mutex
	cut      bool
	closed   bool
	accepted map[net.Conn]struct{}
	dialed   map[net.Conn]struct{}
}

// NewStreams makes the stream layer of the server with the address local.
func NewStreams(in net.Listener, dialer *Dialer, local raft.ServerAddress, lookup func(serverID string) string) *Streams {
	return &Streams{
		in: in, dialer: dialer, local: local, lookup: lookup,
		accepted: map[net.Conn]struct{}{}, dialed: map[net.Conn]struct{}{},
	}
}

// Dial implements raft.StreamLayer.
func (s *Streams) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	s.mu.Lock()
	cut := s.cut
	s.mu.Unlock()
	if cut {
		return nil, ErrCut
	}
	id, hostPort := SplitAddress(address)
	if newest := s.lookup(id); newest != "" {
		hostPort = newest
	}
	ctx, cancel := context.WithTimeout(context.Background(), min(timeout, maxDialTime))
	defer cancel()
	conn, _, err := s.dialer.Connect(ctx, clusterpb.Hello_RAFT, id, hostPort)
	if err != nil {
		return nil, err
	}
	return s.track(conn, s.dialed, true)
}

// Accept implements net.Listener.
func (s *Streams) Accept() (net.Conn, error) {
	conn, err := s.in.Accept()
	if err != nil {
		return nil, err
	}
	return s.track(conn, s.accepted, false)
}

// track keeps a connection where Cut and Close find it.
func (s *Streams) track(conn net.Conn, in map[net.Conn]struct{}, outgoing bool) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || (s.cut && outgoing) {
		conn.Close()
		return nil, net.ErrClosed
	}
	t := &trackedConn{Conn: conn}
	t.forget = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(in, t)
	}
	in[t] = struct{}{}
	return t, nil
}

// Cut stops or resumes all that the node sends to other Raft servers of its
// own accord.
func (s *Streams) Cut(on bool) {
	s.mu.Lock()
	s.cut = on
	s.mu.Unlock()
	if on {
		s.drop(s.dialed)
	}
}

// Quiet reports whether the node calls nobody, as it does when it is cut, and
// whether it answers nobody either: it is closed.
func (s *Streams) Quiet() (cut, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cut || s.closed, s.closed
}

// Close implements net.Listener; it ends every connection.
func (s *Streams) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	err := s.in.Close()
	s.drop(s.dialed)
	s.drop(s.accepted)
	return err
}

func (s *Streams) drop(conns map[net.Conn]struct{}) {
	s.mu.Lock()
	all := make([]net.Conn, 0, len(conns))
	for conn := range conns {
		all = append(all, conn)
	}
	s.mu.Unlock()
	for _, conn := range all {
		conn.Close()
	}
}

// Addr implements net.Listener: the server's own Raft address.
func (s *Streams) Addr() net.Addr { return serverAddr(s.local) }

type serverAddr string

func (serverAddr) Network() string  { return "tcp" }
func (a serverAddr) String() string { return string(a) }

// trackedConn leaves its Streams when it is closed.
type trackedConn struct {
	net.Conn
	once   sync.Once
	forget func()
}

// Close implements net.Conn.
func (c *trackedConn) Close() error {
	c.once.Do(c.forget)
	if err := c.Conn.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}
