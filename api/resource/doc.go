// Package resource turns Envoy messages that clients send as JSON into the
// checked resources that the state holds, and back.
//
// What it checks needs the message alone: fields and types that do not exist,
// the rules of Envoy's own definitions (inside every Any too), secrets in
// clear, names. All mistakes are reported, each with its path. What depends on
// other resources it extracts (references, bound addresses) for package fsm.
//
// A Decoder holds no state; any goroutine may use it.
package resource
