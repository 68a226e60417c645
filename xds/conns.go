package xds

import (
	"net"
	"runtime"
	"sync"
	"time"
	"weak"
)

// closeAfter is how long a connection stays after its streams were moved: for
// their status to be written, and less than proxies wait before they try again.
const closeAfter = 20 * time.Millisecond

// conns knows the open connections by their peers' addresses: gRPC closes none
// when their streams have ended, and a proxy that reaches all nodes by one address
// would come back over it. They are held weakly, and given to gRPC as they
// are, for it pools the buffers of plain TCP connections only.
type conns struct {
	server *Server
	after  time.Duration
	byPeer sync.Map // address to weak.Pointer[net.TCPConn]
}

// Listener returns ln for the gRPC server to accept from, so that connections
// can be closed whose streams were moved.
func (s *Server) Listener(ln net.Listener) net.Listener { return &connListener{ln, s.conns} }

type connListener struct {
	net.Listener
	conns *conns
}

// Accept implements net.Listener.
func (l *connListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok && err == nil {
		peer, p := tcp.RemoteAddr().String(), weak.Make(tcp)
		l.conns.byPeer.Store(peer, p)
		runtime.AddCleanup(tcp, func(peer string) { l.conns.byPeer.CompareAndDelete(peer, p) }, peer)
	}
	return c, err
}

// closeSoon closes the connections from some peers but those that have other
// streams.
func (c *conns) closeSoon(peers map[string]struct{}) {
	time.AfterFunc(c.after, func() {
		for _, st := range c.server.tracked() {
			delete(peers, st.peer)
		}
		for peer := range peers {
			v, _ := c.byPeer.Load(peer)
			p, _ := v.(weak.Pointer[net.TCPConn])
			if conn := p.Value(); conn != nil {
				_ = conn.Close() // gRPC notices
			}
		}
	})
}
