// Package xds serves Envoys their configuration: the aggregated discovery
// service and the single ones, in the state-of-the-world and the delta
// protocol, straight from the replicated state in memory.
//
// It owns what belongs to a live stream and is not replicated: what was sent,
// acknowledged and rejected. It reads states that it is given through Applied
// and never changes one; what streams go through (connects, disconnects,
// rejections) it proposes as batched commands.
//
// A change's way through the package:
//
//	Applied    notes which fleets, endpoints and secrets are dirty, never blocks
//	fan-out    makes the new view of each dirty fleet, the new content of
//	           each subscription to a dirty service, and kicks the streams
//	           concerned (one goroutine, inside Run)
//	pump       decides what a stream is due by its small records, takes the
//	           frame (encoded once, shared) and hands it to gRPC
//	reader     one goroutine a stream, gRPC's handler: takes in
//	           subscriptions, ACKs and NACKs, and pumps
//	reporter   turns what streams went through into commands (inside Run)
//
// Nothing in here waits for a proxy while it holds a lock, and the fan-out
// sends by itself only where gRPC's write quota cannot make it wait.
package xds
