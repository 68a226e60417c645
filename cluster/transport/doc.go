// Package transport owns the Raft port: one TCP listener that carries Raft's
// connections and the nodes' own RPC.
//
// Every connection opens with a Hello that says which cluster it belongs to,
// who dials and who is wanted. The receiver refuses a Raft connection that is
// not for exactly its own server id (node id and incarnation) or that names
// another cluster, so that a node whose disk was wiped never answers under the
// identity that it had.
//
// The Raft transport answers heartbeats by itself while Raft's main loop is
// busy, but only those that change nothing; it never calls into Raft from
// another goroutine than Raft's own. It also checks what comes in before Raft
// sees it, because Raft panics on some of it.
//
// Nothing here keeps an IP: names are looked up at every dial.
package transport
