// Package gossip finds nodes and notices that they are gone, by memberlist.
//
// It carries addresses and loads, nothing that anything is decided by: who
// belongs to the cluster is in Raft's configuration. Each process is a member
// of its own, named by server id and start, so that a node that comes back
// with another IP meets no conflict with its past; its DNS name travels in the
// metadata. Members of another cluster are not let in.
//
// Run looks up the names to join again and again. Callbacks run on memberlist's
// goroutines and must not block.
package gossip
