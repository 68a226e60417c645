// Package local runs what the control plane works with on one machine, all of
// it on loopback: Postgres, Envoy and an HTTP upstream. The dev command and
// the end-to-end tests use it; a node that serves never does.
//
// Every process that it starts ends with the process that started it, however
// that one ends: a small shell watches a pipe that only the starter holds open.
// No function here is called by a goroutine of the node's core.
package local
