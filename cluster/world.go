package cluster

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc"

	"github.com/org/envoy-control-plane/cluster/gossip"
	"github.com/org/envoy-control-plane/cluster/store"
	"github.com/org/envoy-control-plane/cluster/transport"
)

// world is what there is around a node: disk and network. Nil parts are the
// real ones; a simulation replaces all of them.
type world struct {
	// files keep Raft's log and vote.
	files store.Files
	// listen opens the Raft port.
	listen func(ctx context.Context, network, address string) (net.Listener, error)
	// gossip tells who is there.
	gossip func(gossip.Config) memberList
	// carrier carries Raft's messages, as long as the streams let it.
	carrier func(*transport.Streams) transport.Carrier
	// rpc connects to another node; resolve says whom it wants, and where that
	// one is now.
	rpc func(resolve func() (target, address string)) rpcConn
}

// memberList is what the node needs of gossip.
type memberList interface {
	Start(ctx context.Context) error
	Run(ctx context.Context) error
	// Members returns the live nodes, this one included.
	Members() []gossip.Member
	// Address returns host and Raft port of a live server, or "".
	Address(serverID string) string
	// Addresses returns the gossip addresses to join, and the names without one.
	Addresses(ctx context.Context) (addresses, unknown []string)
	Leave(timeout time.Duration) error
	Close() error
}

// rpcConn is a connection for RPC to one node.
type rpcConn interface {
	grpc.ClientConnInterface
	Close() error
}

func (w *world) setDefaults() {
	if w.listen == nil {
		w.listen = (&net.ListenConfig{}).Listen
	}
	if w.gossip == nil {
		w.gossip = func(c gossip.Config) memberList { return gossip.New(c) }
	}
	if w.carrier == nil {
		w.carrier = func(*transport.Streams) transport.Carrier { return nil }
	}
}
