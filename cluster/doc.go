// Package cluster makes one replicated state machine of several nodes.
//
// It owns Raft, its stores and its port, gossip, the first start, membership,
// and the ways from any node to the leader: writes are forwarded as encoded
// commands, strong reads are confirmed by a majority. Everything else sees a
// Node: the newest applied state, Propose, ReadIndex, WaitApplied, Gather.
//
// A Node starts nothing until Run, and Run returns after all that it started
// has ended. The state is applied on Raft's goroutine, which calls every
// Observer there: an observer must never block.
//
// The package must never decide about membership by what gossip says, keep an
// IP, write to a disk that reported an I/O error, or answer a client that a
// write was not applied unless that is certain.
package cluster
