// Package client is a typed client of the REST API.
//
// A Client knows several nodes of one cluster. It stays with the one that
// answered last and goes on to the next when a connection fails or a node says
// that it cannot answer now; a call is over when a node has decided it, when
// its context is done, or when Options.RetryFor has passed.
//
// A write carries an Idempotency-Key that stays the same over all attempts, so
// it applies at most once. Attempts are the client's own: requests are built so
// that net/http never repeats one silently. When no attempt brought an answer
// and one of them may have been applied, the error is ErrOutcomeUnknown.
//
// A read asks for at least the state that the client has seen before
// (min_index), so a client reads its own writes from any node, and names the
// epoch that it saw. After a restore or a recovery one read fails as
// wire.CodeEpochChanged: what the client knows may be undone. It then begins anew.
//
// The package starts no goroutines; a Client may be used from any number of
// them. It must never decide by the text of an answer, only by status and code.
package client
