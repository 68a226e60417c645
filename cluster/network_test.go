package cluster

import (
	"context"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
)

// network is the wires between sites; it can be cut into groups, a site can be
// frozen: its connections stay, but nothing comes through, and those that a
// site has made for RPC can be silenced.
type network struct {
	mu    sync.Mutex
	of    map[int]int // port -> site
	group map[int]int // site -> group
	conns map[net.Conn][2]int

	frozen map[int]bool
	dialed map[int][]*frozenConn // by the site that dialled
}

func newNetwork() *network {
	return &network{
		of: map[int]int{}, group: map[int]int{}, conns: map[net.Conn][2]int{},
		frozen: map[int]bool{}, dialed: map[int][]*frozenConn{},
	}
}

// freeze stops a site as SIGSTOP stops a process.
func (w *network) freeze(site int, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frozen[site] = on
}

// silence loses for good what a site writes on the connections for RPC that it
// has now; those that it makes later work.
func (w *network) silence(site int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.dialed[site] {
		c.silent = c.rpc
	}
}

// frozenConn swallows what is written while one of its ends is frozen.
type frozenConn struct {
	net.Conn
	w    *network
	ends [2]int

	// Of a connection that a site has made, under w.mu.
	writes      int
	rpc, silent bool
}

func (c *frozenConn) Write(b []byte) (int, error) {
	var hello clusterpb.Hello
	c.w.mu.Lock()
	if c.writes++; c.writes == 2 { // the first is the version, the second a Hello behind its length
		c.rpc = proto.Unmarshal(b[2:], &hello) == nil && hello.GetKind() == clusterpb.Hello_RPC
	}
	lost := c.silent || c.w.frozen[c.ends[0]] || c.w.frozen[c.ends[1]]
	c.w.mu.Unlock()
	if lost {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// siteListener marks what a site accepts.
type siteListener struct {
	net.Listener
	w    *network
	site int
}

func (l *siteListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &frozenConn{Conn: conn, w: l.w, ends: [2]int{l.site, l.site}}, nil
}

// plug connects site i.
func (w *network) plug(i int, c *Config, d *Deps) {
	w.of[c.RaftPort], w.of[c.GossipPort] = i, i
	d.Dial = func(ctx context.Context, netw, address string) (net.Conn, error) {
		return w.dial(ctx, i, netw, address)
	}
	d.WrapListener = func(ln net.Listener) net.Listener { return &siteListener{Listener: ln, w: w, site: i} }
	d.WrapGossip = func(t memberlist.NodeAwareTransport) memberlist.NodeAwareTransport {
		return &gossipWire{NodeAwareTransport: t, w: w, from: i}
	}
}

// split puts the given sites into a group of their own; heal undoes it.
func (w *network) split(sites ...int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, i := range sites {
		w.group[i] = 1
	}
	for conn, ends := range w.conns {
		if w.group[ends[0]] != w.group[ends[1]] {
			conn.Close()
		}
	}
}

// whole reports whether nothing is split.
func (w *network) whole() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.group) == 0
}

func (w *network) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.group)
}

// to returns the site behind an address, and whether it can be reached.
func (w *network) to(from int, address string) (to int, ok bool) {
	_, port, _ := net.SplitHostPort(address)
	p, _ := strconv.Atoi(port)
	w.mu.Lock()
	defer w.mu.Unlock()
	to, known := w.of[p]
	return to, !known || w.group[from] == w.group[to]
}

func (w *network) dial(ctx context.Context, from int, netw, address string) (net.Conn, error) {
	to, ok := w.to(from, address)
	if !ok {
		return nil, errTest
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, netw, address)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.group[from] != w.group[to] {
		conn.Close()
		return nil, errTest
	}
	w.conns[conn] = [2]int{from, to}
	c := &frozenConn{Conn: conn, w: w, ends: [2]int{from, to}}
	w.dialed[from] = append(w.dialed[from], c)
	return c, nil
}

// gossipWire is one site's gossip on the network.
type gossipWire struct {
	memberlist.NodeAwareTransport
	w    *network
	from int
}

func (g *gossipWire) WriteTo(b []byte, addr string) (time.Time, error) {
	return g.WriteToAddress(b, memberlist.Address{Addr: addr})
}

func (g *gossipWire) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if _, ok := g.w.to(g.from, a.Addr); !ok {
		return time.Now(), nil
	}
	return g.NodeAwareTransport.WriteToAddress(b, a)
}

func (g *gossipWire) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return g.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func (g *gossipWire) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if _, ok := g.w.to(g.from, a.Addr); !ok {
		return nil, errTest
	}
	return g.NodeAwareTransport.DialAddressTimeout(a, timeout)
}
