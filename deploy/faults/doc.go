// Package faults holds the fault suite: nodes of the control plane as real
// processes, each in a network namespace of its own, and clients that write and
// read on all of them while a schedule of faults goes on. What the clients saw
// is checked for linearizability; what was acknowledged must be in the state of
// every node, and exactly once in Postgres.
//
//	ECP_FAULTS_SEED  repeats a schedule (not a run: Raft draws its own timeouts)
//	ECP_FAULTS_FOR   how long, in whole rounds; default: one round. Tests of one fault take longer then, too
//	ECP_FAULTS_KILLS how many leaders at work on the archive are killed at least, in whole rounds; default: one round
//	ECP_FAULTS_ONLY  a pattern of faults' names, to look at some alone
//	ECP_FAULTS_DIR   where logs, history and trace go; kept on failure
//
// The tests run in namespaces of their own for network and mounts, so that
// nothing of theirs outlives them. That takes root or, without it, user
// namespaces; where there is neither the suite fails. Fsyncs are made slow and
// made to fail by strace, which is installed by apt-get where it is missing.
package faults
