// Package backup makes backups of the cluster at an interval, in a directory
// or a bucket of S3-compatible storage, and removes those that have become
// too old.
//
// The leader of the moment makes them. What the last backup is it finds out by
// looking into the target, so that a leader that has just been elected goes on
// with the schedule. A Keeper does all its work in Run, on one goroutine; what
// it asks of the state is the pointer to it.
//
// The package must never remove what this cluster has not written, the newest
// backup that was verified, or anything at all before one was; and must never
// keep the node from working, whatever becomes of the target.
package backup
