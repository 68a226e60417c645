// Package history keeps what the clients of a cluster did, and checks it: that
// it is linearizable, and that the final state has each write as often as it was
// answered. Suites that make faults share it, whatever their clients speak.
//
// Only tests import it.
package history
