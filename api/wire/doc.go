// Package wire holds the JSON shapes and the error codes of the REST API, as
// the OpenAPI document describes them. The server writes them, clients read
// them; both sides share these types so that neither can drift.
//
// The package holds data only: no I/O, no goroutines, no dependency on the
// rest of the module, so that a client built on it stays small.
package wire
