package cluster

import (
	"github.com/hashicorp/raft"
	"google.golang.org/grpc"

	"github.com/org/envoy-control-plane/cluster/store"
	"github.com/org/envoy-control-plane/cluster/transport"
)

// runtime is what Run starts. It is complete before anybody sees it.
type runtime struct {
	stores  *store.Stores
	mux     *transport.Mux
	streams *transport.Streams
	trans   *transport.Raft
	raft    *raft.Raft
	gossip  memberList
	peers   *peers
	grpc    *grpc.Server

	proposer  *proposer
	forwarder *forwarder
	reader    *reader
}

// servers returns the newest Raft configuration.
func (rt *runtime) servers() []raft.Server {
	return rt.raft.GetConfiguration().Configuration().Servers
}

// alone reports whether a server is the only voter.
func alone(servers []raft.Server, serverID string) bool {
	voters := 0
	self := false
	for _, s := range servers {
		if s.Suffrage == raft.Voter {
			voters++
			self = self || string(s.ID) == serverID
		}
	}
	return self && voters == 1
}

// gossipAddress returns where gossip says that a server is, or "".
func (n *Node) gossipAddress(serverID string) string {
	rt := n.rt.Load()
	if rt == nil {
		return ""
	}
	return rt.gossip.Address(serverID)
}

// addressOf returns host and Raft port of a server, or "".
func (n *Node) addressOf(serverID string) string {
	if a := n.gossipAddress(serverID); a != "" {
		return a
	}
	rt := n.rt.Load()
	if rt == nil {
		return ""
	}
	for _, s := range rt.servers() {
		if string(s.ID) == serverID {
			_, hostPort := transport.SplitAddress(s.Address)
			return hostPort
		}
	}
	return ""
}
