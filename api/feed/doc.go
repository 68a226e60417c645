// Package feed holds the events that a node's state retains, by tenant, for
// many readers at once.
//
// A Hub has one goroutine, the pump, while anybody reads. It waits for the
// published state to move, sorts the events in by tenant and wakes the readers
// of those tenants, some at a time, by closing a channel: it never waits for one,
// and rests in between so that thousands of them leave the node time for its work. A reader goes
// through the events from its own position, so that there is no queue to fill:
// what bounds it is what the state retains. An event becomes JSON once, for all.
//
// The package knows nothing of HTTP, and must never modify an event.
package feed
