// Package api serves the REST API: it reads requests, checks what the request
// alone shows, makes commands of writes and answers reads from the published
// state.
//
// One table (routes) says what there is: method, path, operation, permission
// and handler. The router, the metrics, the authoriser and the test against
// the OpenAPI document (api/openapi, the source of the outside) all follow it.
//
// What depends on state is never decided here from a lagging copy: a write is
// decided in fsm's Apply, and a read that would answer 404 or 409 is read
// again after a read index. The package holds no state of its own but the
// metrics; it must never modify what fsm returns, and reaches Raft, the
// streams and the archive only through the interfaces in deps.go.
//
// Handlers run on net/http's goroutines; the package starts none but the one
// that shuts the HTTP server down, that of api/feed while events are streamed, and
// a short one for each ping of a WebSocket.
package api
