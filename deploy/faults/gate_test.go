package faults

import (
	"net"
	"sync"

	"github.com/org/envoy-control-plane/deploy/local"
)

// gate leads connections on, and can cut those that there are.
type gate struct {
	ln net.Listener
	to string

	mu    sync.Mutex
	conns []net.Conn
}

func openGate(address, to string) (*gate, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	g := &gate{ln: ln, to: to}
	go g.serve()
	return g, nil
}

func (g *gate) serve() {
	for {
		from, err := g.ln.Accept()
		if err != nil {
			return // closed
		}
		to, err := net.Dial("tcp", g.to)
		if err != nil {
			_ = from.Close()
			continue
		}
		g.mu.Lock()
		g.conns = append(g.conns, from)
		g.mu.Unlock()
		local.Pipe(from, to)
	}
}

func (g *gate) address() string { return g.ln.Addr().String() }

// cut closes every connection, whatever it is at.
func (g *gate) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.conns {
		_ = c.Close()
	}
	g.conns = nil
}

func (g *gate) close() {
	_ = g.ln.Close()
	g.cut()
}
