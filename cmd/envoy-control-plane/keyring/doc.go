// Package keyring encrypts secrets before they become commands of the
// replicated log, and decrypts them on their way to proxies.
//
// The API seals with it, the xDS server opens with it; nothing else sees what
// is inside. A Ring is immutable; any goroutine may use it. It writes no log and
// puts no material into errors.
package keyring
