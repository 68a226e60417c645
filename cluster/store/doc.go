// Package store keeps a node's Raft log, term and vote, and snapshots on disk.
//
// The log is a bolt file with a checksum on every entry. An entry that does
// not match is never handed out: the store reports it and the node stops. The
// log clears itself when a snapshot is installed. Term and vote live in a file
// of their own, preallocated, so that an election never needs new disk space;
// the two halves of a vote are written in one transaction. The log's file has a
// reserve, which is given up for entries that find no room on the disk.
//
// A snapshot is read back when it was written. Restore picks the one to start
// from, and refuses to go back behind what the log makes up for.
//
// The store must never repair or truncate by itself: what it has written was
// acknowledged to others. Raft's main loop calls it; Watch is for one more
// goroutine that looks for writes that hang. Inspect and Stage are for commands,
// while no node runs.
package store
