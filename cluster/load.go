package cluster

// Load is what gossip knows of a node's xDS streams. That of other nodes is
// seconds old.
type Load struct {
	// Node is the node's id.
	Node    string
	Streams int
	// Open: the node is alive, has caught up and takes streams.
	Open bool
}

// Loads returns the loads of all live nodes, this one included.
func (n *Node) Loads() []Load {
	rt := n.rt.Load()
	if rt == nil {
		return nil
	}
	members := rt.gossip.Members()
	loads := make([]Load, 0, len(members))
	for _, m := range members {
		loads = append(loads, Load{
			Node: m.NodeID(), Streams: int(m.Meta.Streams), Open: m.Meta.Ready && !m.Meta.Draining,
		})
	}
	return loads
}
