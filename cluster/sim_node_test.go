package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/org/envoy-control-plane/cluster/gossip"
	"github.com/org/envoy-control-plane/cluster/transport"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// simHost is a place where a node runs, over its restarts and disks.
type simHost struct {
	sim   *simulation
	id    string
	disk  atomic.Pointer[simDisk] // another one once it is wiped
	wipes int
	// busy is held while a node is brought down or up.
	busy turn
	node *simNode // the one that runs; busy is held
}

// simNode is one start of a node: all of it but gossip, gRPC and sockets.
type simNode struct {
	sim     *simulation
	host    *simHost
	node    *Node
	carrier atomic.Pointer[simCarrier] // nil before Raft has one
	ctx     context.Context            // the life of the process that this stands for
	stop    context.CancelFunc
	done    chan error
	dead    chan struct{} // closed when it crashes
	applied atomic.Uint64
}

// crashed reports whether the process is gone, whatever its remains still do.
func (x *simNode) crashed() bool {
	select {
	case <-x.dead:
		return true
	default:
		return false
	}
}

// start starts a node from what is on the disk; h.busy is held.
func (h *simHost) start() error {
	x := &simNode{sim: h.sim, host: h, done: make(chan error, 1), dead: make(chan struct{})}
	n, err := New(h.config(), Deps{
		Log: slog.New(&simLog{trace: h.sim.trace, host: h.id}), Observers: []Observer{x},
		around: world{
			files: h.disk.Load().open,
			listen: func(context.Context, string, string) (net.Listener, error) {
				return &simListener{done: make(chan struct{})}, nil
			},
			gossip: func(c gossip.Config) memberList { return &simGossip{net: h.sim.net, x: x, join: c.Join} },
			carrier: func(s *transport.Streams) transport.Carrier {
				c := newSimCarrier(x, s)
				x.carrier.Store(c)
				return c
			},
			rpc: func(resolve func() (string, string)) rpcConn {
				return &simRPC{x: x, resolve: resolve, done: make(chan struct{})}
			},
		},
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", h.id, err)
	}
	x.node = n
	x.ctx, x.stop = context.WithCancel(context.Background())
	h.sim.trace.note(h.id, "starts as %s", n.ident.ServerID())
	h.node = x
	h.sim.net.connect(h.id, x)
	go func() {
		err := n.Run(x.ctx)
		if x.ctx.Err() == nil {
			h.sim.trace.note(h.id, "ends by itself: %v", err)
		}
		x.stop()
		x.done <- err
	}()
	return nil
}

func (h *simHost) config() Config {
	c := Config{
		NodeID: h.id, DataDir: filepath.Join(h.sim.dir, fmt.Sprintf("%s-%d", h.id, h.wipes)), Bind: "127.0.0.1", Advertise: h.id,
		RaftPort: 7000, GossipPort: 7946, BootstrapExpect: h.sim.plan.founders, Timers: h.sim.plan.timers,
	}
	for _, other := range h.sim.hosts {
		c.Join = append(c.Join, other.id+":7946")
	}
	return c
}

// crash ends the node at once. What it has not synced is gone; what it still
// does, before its goroutines end, nobody sees.
func (h *simHost) crash() {
	x := h.node
	if x == nil {
		return
	}
	h.sim.trace.note(h.id, "crashes")
	close(x.dead)
	h.sim.net.connect(h.id, nil)
	h.disk.Load().crash()
	x.stop()
	h.end()
}

// leave stops the node in good order, as SIGTERM does.
func (h *simHost) leave() {
	x := h.node
	if x == nil {
		return
	}
	h.sim.trace.note(h.id, "leaves")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := x.node.Leave(ctx); err != nil {
		h.sim.trace.note(h.id, "leaves: %v", err)
	}
	x.stop()
	h.end()
	h.sim.net.connect(h.id, nil)
}

// end waits for the goroutines of a node that stops.
func (h *simHost) end() {
	x := h.node
	if err := <-x.done; err != nil {
		h.sim.trace.note(h.id, "has ended: %v", err)
	}
	h.node = nil
}

// Applied implements Observer.
func (x *simNode) Applied(st *fsm.State, _ []*fsmpb.Event) {
	x.sim.checks.reached(x, st)
}

// simGossip knows who runs and can be heard.
type simGossip struct {
	net  *simNet
	x    *simNode
	join []string
}

// Start implements memberList.
func (g *simGossip) Start(context.Context) error { return nil }

// Run implements memberList.
func (g *simGossip) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Members implements memberList.
func (g *simGossip) Members() (all []gossip.Member) {
	for _, h := range g.x.sim.hosts {
		x := g.net.at(h.id)
		if x == nil || h != g.x.host && g.net.cut(simLink{h.id, g.x.host.id}) {
			continue
		}
		all = append(all, gossip.Member{Meta: x.node.meta(), GossipAddress: h.id + ":7946"})
	}
	return all
}

// Address implements memberList.
func (g *simGossip) Address(serverID string) string {
	for _, m := range g.Members() {
		if m.Meta.ServerId == serverID {
			return m.RaftAddress()
		}
	}
	return ""
}

// Addresses implements memberList.
func (g *simGossip) Addresses(context.Context) (addresses, unknown []string) {
	for _, a := range g.join {
		if a != g.x.host.id+":7946" {
			addresses = append(addresses, a)
		}
	}
	return addresses, nil
}

// Leave implements memberList.
func (g *simGossip) Leave(time.Duration) error { return nil }

// Close implements memberList.
func (g *simGossip) Close() error { return nil }

// simListener is a port that nobody connects to: the messages come another way.
type simListener struct {
	once sync.Once
	done chan struct{}
}

// Accept implements net.Listener.
func (l *simListener) Accept() (net.Conn, error) {
	<-l.done
	return nil, net.ErrClosed
}

// Close implements net.Listener.
func (l *simListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements net.Listener.
func (l *simListener) Addr() net.Addr { return &net.TCPAddr{} }

// simLog puts what nodes say, from Info on, into the trace.
type simLog struct {
	trace *simTrace
	host  string
}

// Enabled implements slog.Handler.
func (l *simLog) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// Handle implements slog.Handler.
func (l *simLog) Handle(_ context.Context, r slog.Record) error {
	var attrs []slog.Attr
	r.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, a)
		return true
	})
	l.trace.note(l.host, "says %s: %s %v", r.Level, r.Message, attrs)
	return nil
}

// WithAttrs implements slog.Handler.
func (l *simLog) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup implements slog.Handler.
func (l *simLog) WithGroup(string) slog.Handler { return l }
