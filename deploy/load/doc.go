// Package load is clients that write and read over REST, on all nodes, and keep
// what they did in a history. Suites that make faults share it.
//
// Only tests import it.
package load
