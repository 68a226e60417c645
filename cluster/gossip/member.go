package gossip

import (
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/memberlist"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
)

// Member is a node that gossip believes to be alive.
type Member struct {
	Meta *clusterpb.Meta
	// GossipAddress is IP and port.
	GossipAddress string
}

// NodeID returns the part of the server id that outlives a disk.
func (m Member) NodeID() string {
	id, _, _ := strings.Cut(m.Meta.GetServerId(), "/")
	return id
}

// RaftAddress returns the advertised host and Raft port.
func (m Member) RaftAddress() string {
	return net.JoinHostPort(m.Meta.GetHost(), strconv.FormatUint(uint64(m.Meta.GetRaftPort()), 10))
}

// memberOf decodes a memberlist node; false if it is none of ours.
func memberOf(n *memberlist.Node) (Member, bool) {
	meta := &clusterpb.Meta{}
	if err := proto.Unmarshal(n.Meta, meta); err != nil || meta.ServerId == "" || meta.RaftPort == 0 {
		return Member{}, false
	}
	return Member{Meta: meta, GossipAddress: n.Address()}, true
}

// newest keeps, of several starts of one server, the last.
func newest(all []Member) []Member {
	byID := map[string]Member{}
	for _, m := range all {
		if old, ok := byID[m.Meta.ServerId]; !ok || old.Meta.Start < m.Meta.Start {
			byID[m.Meta.ServerId] = m
		}
	}
	out := make([]Member, 0, len(byID))
	for _, m := range byID {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.Meta.ServerId, b.Meta.ServerId) })
	return out
}
