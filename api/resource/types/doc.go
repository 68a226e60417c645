// Package types makes every message type that go-control-plane ships known
// to the global protobuf registry, and nothing else.
package types

//go:generate go run ../gen
