// Package fsm is the pure core of the control plane: the replicated state of
// tenants, fleets, revisions, endpoints, proxies and the archive's outbox,
// the commands that change it, and its snapshots.
//
// A State is one immutable version of everything. Apply makes the next one
// from it and shares what did not change (immutable radix trees), so a State
// may be read from any goroutine while Apply runs on another; a dry run is an
// Apply whose outcome is thrown away, and a snapshot never stops a writer.
//
// The package imports none of ours but its messages, does no I/O and reads no
// clock, randomness or environment: the same entries make the same bytes on
// every node. Time is log time, stamped by the leader into the entry.
//
// Apply is called by one goroutine, the one that reads the Raft log.
package fsm
