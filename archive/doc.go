// Package archive copies every committed event, exactly once, from the outbox
// in the replicated state into Postgres, and reads history back from there.
//
// It owns the connections to Postgres, the cursor there, the partitions and
// their retention. It is never on the way of a write, of a read of the current
// state, or of xDS: a database that is away makes the outbox grow and nothing
// else.
//
// What proxies measure is written by archive/rollup, apart from all of this; here
// are its partitions and its report.
//
// Run's goroutine does all of the writing, while the node leads: the batches,
// and the digest of what is stored that reports are answered from. Applied is
// called on the goroutine that applies the log and only rings a bell. Status,
// History, the reports and Revision may be called from any goroutine.
//
// DESIGN.md has the protocol and the reasons.
package archive
