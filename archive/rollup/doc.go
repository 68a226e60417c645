// Package rollup takes what Envoys measure of themselves, sums it up by minutes
// and writes that to Postgres.
//
// It is lossy by design: nothing in here waits for the database but Run's
// goroutine, on a connection of its own, and whatever exceeds a bound or finds no
// database is dropped and counted. It never touches the log, the archive's cursor
// or the archive's connections.
//
//	Stream     is one proxy's: Take decodes a message on the goroutine that
//	           received it, picks what is on the allow list and sums it up
//	queue      takes the rows of an interval that is over, up to a bound
//	Collector  opens streams, and in Run copies the queue to Postgres
//
// Streams share nothing but counters and the queue. archive/DESIGN.md has the
// reasons.
package rollup
