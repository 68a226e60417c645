package faults

import (
	"bufio"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// gate leads connections on to Postgres. It can cut those that there are, and
// hold one at a moment of the writer's work.
type gate struct {
	ln   net.Listener
	quit chan struct{}

	mu    sync.Mutex
	to    string
	conns []net.Conn
	trap  *trap
}

// trap waits for the first writer that comes to a moment, and has it until it
// is let go: the message that would be next has not passed.
type trap struct {
	moment moment
	caught chan string // the IP of the writer
	pass   chan bool   // whether the message passes; if not, the connection is closed
}

func openGate(address, to string) (*gate, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	g := &gate{ln: ln, to: to, quit: make(chan struct{})}
	go g.serve()
	return g, nil
}

func (g *gate) serve() {
	for {
		client, err := g.ln.Accept()
		if err != nil {
			return // closed
		}
		g.mu.Lock()
		to := g.to
		g.mu.Unlock()
		server, err := net.Dial("tcp", to)
		if err != nil {
			_ = client.Close()
			continue
		}
		g.mu.Lock()
		g.conns = append(g.conns, client)
		g.mu.Unlock()
		w := &work{statements: map[string]string{}}
		go g.pass(server, client, true, w.sent, client)
		go g.pass(client, server, false, w.answered, client)
	}
}

// pass leads messages on until one side is closed, and closes both.
func (g *gate) pass(to, from net.Conn, first bool, next func(message) moment, client net.Conn) {
	defer to.Close()
	defer from.Close()
	for r := bufio.NewReader(from); ; first = false {
		m, err := readMessage(r, first)
		if err != nil || !g.passes(next(m), client) {
			return
		}
		if _, err := to.Write(m.raw); err != nil {
			return
		}
	}
}

// passes holds a writer that comes to the moment that is waited for.
func (g *gate) passes(m moment, client net.Conn) bool {
	g.mu.Lock()
	t := g.trap
	if m == "" || t == nil || t.moment != m {
		g.mu.Unlock()
		return true
	}
	g.trap = nil
	g.mu.Unlock()
	host, _, err := net.SplitHostPort(client.RemoteAddr().String())
	if err != nil {
		return false
	}
	t.caught <- host
	select {
	case pass := <-t.pass:
		return pass
	case <-g.quit:
		return false
	}
}

// catch holds the next writer that comes to a moment, and returns its IP.
func (g *gate) catch(m moment) (t *trap, host string, err error) {
	t = &trap{moment: m, caught: make(chan string, 1), pass: make(chan bool, 1)}
	g.mu.Lock()
	g.trap = t
	g.mu.Unlock()
	if m == atClaim { // only a new connection makes one
		g.cut()
	}
	select {
	case host = <-t.caught:
		return t, host, nil
	case <-time.After(patience):
		t.pass <- false
		return nil, "", fmt.Errorf("no writer comes to %s", m)
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
	g.conns = slices.Delete(g.conns, 0, len(g.conns))
}

// turn leads to another server from now on.
func (g *gate) turn(to string) {
	g.mu.Lock()
	g.to = to
	g.mu.Unlock()
	g.cut()
}

func (g *gate) close() {
	close(g.quit)
	_ = g.ln.Close()
	g.cut()
}
