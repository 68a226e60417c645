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

// Loads returns the loads of all live nodes of the cluster, this one included.
func (n *Node) Loads() []Load {
	rt := n.rt.Load()
	if rt == nil {
		return nil
	}
	members := rt.gossip.Members()
	loads := make([]Load, 0, len(members))
	id := n.ident.get()
	for _, m := range members {
		if m.Meta.ClusterId != id.ClusterId || m.Meta.Recovery != newest(id.Recoveries) {
			continue // proxies are no better off there
		}
		loads = append(loads, Load{
			Node: m.NodeID(), Streams: int(m.Meta.Streams), Open: m.Meta.Ready && !m.Meta.Draining,
		})
	}
	return loads
}
