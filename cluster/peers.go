package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/stats"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
	"github.com/org/envoy-control-plane/cluster/transport"
)

// maxMessageBytes bounds one RPC message: a change set of 10 MB and a fleet's
// stream reports fit.
const maxMessageBytes = 64 << 20

// peers are the RPC connections to other nodes, made when first needed. Each
// dial looks the address up anew.
type peers struct {
	dialer *transport.Dialer
	// lookup returns host and Raft port of a server, or "".
	lookup func(serverID string) string
	// rpc connects in place of gRPC, unless it is nil.
	rpc func(resolve func() (target, address string)) rpcConn

	mu    sync.Mutex
	conns map[string]rpcConn // nil once closed
}

func newPeers(d *transport.Dialer, lookup func(serverID string) string, rpc func(func() (string, string)) rpcConn) *peers {
	return &peers{dialer: d, lookup: lookup, rpc: rpc, conns: map[string]rpcConn{}}
}

// to returns a client of exactly this server.
func (p *peers) to(serverID string) (clusterpb.PeerClient, error) { return p.client(serverID) }

// at returns a client of whoever has this host and port.
func (p *peers) at(address string) (clusterpb.PeerClient, error) { return p.client("@" + address) }

func (p *peers) client(key string) (clusterpb.PeerClient, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil {
		return nil, errors.New("the node has stopped")
	}
	conn, ok := p.conns[key]
	if !ok {
		var err error
		if conn, err = p.connect(key); err != nil {
			return nil, err
		}
		p.conns[key] = conn
	}
	return clusterpb.NewPeerClient(conn), nil
}

func (p *peers) connect(key string) (rpcConn, error) {
	if p.rpc != nil {
		return p.rpc(func() (target, address string) { return p.resolve(key) }), nil
	}
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		target, address := p.resolve(key)
		if address == "" {
			return nil, fmt.Errorf("no address of %s is known", key)
		}
		conn, _, err := p.dialer.Connect(ctx, clusterpb.Hello_RPC, target, address)
		return conn, err
	}
	conn, err := grpc.NewClient("passthrough:///"+key,
		grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the dialer secures it
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 500 * time.Millisecond},
			MinConnectTimeout: 2 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}),
		grpc.WithStatsHandler(sentTracker{}),
		grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)),
	)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", key, err)
	}
	return conn, nil
}

// resolve returns whom a key wants and where to dial.
func (p *peers) resolve(key string) (target, address string) {
	if a, ok := strings.CutPrefix(key, "@"); ok {
		return "", a
	}
	return key, p.lookup(key)
}

// redial drops the connection to a server, so that the next request makes a
// new one.
func (p *peers) redial(serverID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if conn, ok := p.conns[serverID]; ok {
		conn.Close()
		delete(p.conns, serverID)
	}
}

// keep closes the connections to all but these servers.
func (p *peers) keep(serverIDs map[string]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, conn := range p.conns {
		if !serverIDs[key] {
			conn.Close()
			delete(p.conns, key)
		}
	}
}

func (p *peers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		conn.Close()
	}
	p.conns = nil
}

// sentKey is the context key of a *atomic.Bool that is set once a byte of the
// request is on its way.
type sentKey struct{}

// sentTracker sets it.
type sentTracker struct{}

// TagRPC implements stats.Handler.
func (sentTracker) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC implements stats.Handler.
func (sentTracker) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if _, ok := s.(*stats.OutPayload); !ok {
		return
	}
	if sent, ok := ctx.Value(sentKey{}).(*atomic.Bool); ok {
		sent.Store(true)
	}
}

// TagConn implements stats.Handler.
func (sentTracker) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (sentTracker) HandleConn(context.Context, stats.ConnStats) {}
