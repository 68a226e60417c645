// Package trio runs clusters of three real processes on loopback, ours and
// etcd's, for measurements: it starts, kills and looks at members and writes
// one key a client.
//
// It measures nothing itself, and knows nothing of figures. Every function may
// be called from many goroutines, except those that start and end members.
package trio
