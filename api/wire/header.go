package wire

// Headers and media types of the API.
const (
	// HeaderIndex is on every answer: the log index that it reflects.
	HeaderIndex = "Ecp-Index"
	// HeaderEpoch is beside it: the history that the index belongs to. A restore
	// and a recovery begin another one, and indexes of two epochs cannot be
	// compared. A read that is sent with one is answered from that epoch or not at all.
	HeaderEpoch = "Ecp-Epoch"
	// HeaderIdempotencyKey makes a retried write apply once.
	HeaderIdempotencyKey = "Idempotency-Key"
	// HeaderReplayed is "true" on the remembered answer to a repeated write.
	HeaderReplayed = "Idempotent-Replayed"
	// HeaderRequestID is echoed, and made up when absent.
	HeaderRequestID = "X-Request-Id"

	// HeaderDigest (RFC 9530), HeaderCluster and HeaderTerm say, with HeaderEpoch,
	// what a backup is.
	HeaderDigest  = "Repr-Digest"
	HeaderCluster = "Ecp-Cluster"
	HeaderTerm    = "Ecp-Term"

	// MediaJSON is what the API speaks.
	MediaJSON = "application/json"
	// MediaYAML is accepted for bodies, as application/x-yaml and text/yaml are.
	MediaYAML = "application/yaml"
	// MediaSnapshot is a backup.
	MediaSnapshot = "application/octet-stream"
	// MediaEvents is a stream of server-sent events.
	MediaEvents = "text/event-stream"
	// MediaProblem is the media type of every error.
	MediaProblem = "application/problem+json"

	// HeaderLastEventID has the place in a stream that a client goes on from.
	HeaderLastEventID = "Last-Event-ID"
	// EventProtocol is the WebSocket subprotocol of event streams. A client that can
	// set no Authorization header offers BearerProtocol with its token beside it.
	EventProtocol  = "ecp.events.v1"
	BearerProtocol = "ecp.bearer." //nolint:gosec // what a token stands behind

	// Prefix of every path but /health, /ready and /version.
	Prefix = "/api/v1"
)

// Limits of the API.
const (
	// MaxBodyBytes bounds a request's body, decompressed too.
	MaxBodyBytes = 10 << 20
	// DefaultLimit and MaxLimit bound a page of a list.
	DefaultLimit = 100
	MaxLimit     = 1000
)
