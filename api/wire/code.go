package wire

import "net/http"

// Code is the stable, machine-readable reason in a problem document. Clients
// decide by it; title and detail are for people and may change.
type Code string

// Codes of requests that are wrong in themselves.
const (
	CodeMalformedJSON         Code = "malformed_json"          // the body is not JSON
	CodeMalformedYAML         Code = "malformed_yaml"          // the body is not YAML
	CodeUnknownField          Code = "unknown_field"           // a field that the API or an Envoy message does not have
	CodeUnknownType           Code = "unknown_type"            // an @type that this build does not know
	CodeInvalid               Code = "invalid_argument"        // a value is not allowed, or mistakes of several kinds
	CodeInvalidParameter      Code = "invalid_parameter"       // a query parameter or header is not allowed
	CodeInvalidName           Code = "invalid_name"            // a name outside its pattern
	CodeInvalidResource       Code = "invalid_resource"        // an Envoy message breaks a rule of its definition
	CodeInvalidCursor         Code = "invalid_cursor"          // a cursor that no list of this kind has given
	CodeDuplicateName         Code = "duplicate_name"          // one type and name twice in a change set
	CodeNotStaged             Code = "not_staged"              // endpoints or a secret in a change set
	CodeInlineSecret          Code = "inline_secret"           // a private key or password inside a resource
	CodeUnauthenticated       Code = "unauthenticated"         // no token, or one that does not hold
	CodeForbidden             Code = "forbidden"               // the token's role or tenant does not allow it
	CodeUnknownPath           Code = "unknown_path"            // no such path
	CodeMethodNotAllowed      Code = "method_not_allowed"      // see the Allow header
	CodeBodyTooLarge          Code = "body_too_large"          // over 10 MB, decompressed too
	CodeUnsupportedMedia      Code = "unsupported_media_type"  // neither JSON nor YAML, or an unknown Content-Encoding
	CodeRequestTimeout        Code = "request_timeout"         // the body did not arrive within the limit
	CodeInvalidIdempotencyKey Code = "invalid_idempotency_key" // empty, too long or not printable
	CodeUpgradeRequired       Code = "upgrade_required"        // the path speaks WebSocket, the request does not
	CodeInvalidSnapshot       Code = "invalid_snapshot"        // no backup, a damaged one, or one that needs a newer build
)

// Codes of refusals that depend on the state. Nothing was changed.
const (
	CodeTenantNotFound      Code = "tenant_not_found"
	CodeTenantNotEmpty      Code = "tenant_not_empty"
	CodeTenantProtected     Code = "tenant_protected"
	CodeFleetNotFound       Code = "fleet_not_found"
	CodeFleetHasProxies     Code = "fleet_has_proxies"
	CodeRevisionConflict    Code = "revision_conflict"
	CodeRevisionNotFound    Code = "revision_not_found"
	CodeResourceNotFound    Code = "resource_not_found"
	CodeWouldEmpty          Code = "would_empty"
	CodeAddressConflict     Code = "address_conflict"
	CodeEndpointsNotFound   Code = "endpoints_not_found"
	CodeSecretNotFound      Code = "secret_not_found"
	CodeProxyNotFound       Code = "proxy_not_found"
	CodeProxyConnected      Code = "proxy_connected"
	CodeNodeNotFound        Code = "node_not_found"
	CodeWouldLoseQuorum     Code = "would_lose_quorum"
	CodeLevelUnsupported    Code = "level_unsupported" // a node does not support the feature level, or cannot be asked
	CodeNotFinalized        Code = "not_finalized"     // the cluster's feature level is too low
	CodeIdempotencyMismatch Code = "idempotency_mismatch"
	CodeForeignSnapshot     Code = "foreign_snapshot" // a backup of another cluster
	CodeEpochChanged        Code = "epoch_changed"    // an index or sequence from before a restore
	CodeEventsGone          Code = "events_gone"      // events behind the position are kept nowhere any more
)

// Codes of a cluster that cannot answer now.
const (
	CodeOutboxFull         Code = "outbox_full"         // not applied; the archive lags beyond its bound
	CodeReadOnly           Code = "read_only"           // not applied; an operator has the cluster refuse writes
	CodeNoLeader           Code = "no_leader"           // not applied; retry
	CodeNotLeader          Code = "not_leader"          // not applied; retry
	CodeUnavailable        Code = "unavailable"         // not applied; retry
	CodeTimeout            Code = "timeout"             // not applied; the request's time ran out
	CodeSecretsDisabled    Code = "secrets_disabled"    // not applied; the node has no key for secrets
	CodeArchiveUnavailable Code = "archive_unavailable" // the database does not answer
	CodeArchiveDisabled    Code = "archive_disabled"    // the node has no database
	CodeStorageFull        Code = "storage_full"        // not applied; no room on disk
	CodeTooManyStreams     Code = "too_many_streams"    // the node streams events to as many as it may; ask another one
	CodeTooSlow            Code = "too_slow"            // the end of a stream that its reader did not keep up with
	CodeOutcomeUnknown     Code = "outcome_unknown"     // may be applied; retry with the same Idempotency-Key
	CodeInternal           Code = "internal"            // may be applied; a defect of the server
)

// Status is the HTTP status that a code is answered with: the one table from
// codes to statuses. A code that is not listed is a defect: 500.
func (c Code) Status() int {
	switch c {
	case CodeMalformedJSON, CodeMalformedYAML, CodeUnknownField, CodeUnknownType, CodeInvalid,
		CodeInvalidParameter, CodeInvalidName, CodeInvalidResource, CodeInvalidCursor,
		CodeDuplicateName, CodeNotStaged, CodeInlineSecret, CodeInvalidIdempotencyKey, CodeInvalidSnapshot:
		return http.StatusBadRequest
	case CodeUnauthenticated:
		return http.StatusUnauthorized
	case CodeForbidden:
		return http.StatusForbidden
	case CodeUnknownPath, CodeTenantNotFound, CodeFleetNotFound, CodeRevisionNotFound,
		CodeResourceNotFound, CodeEndpointsNotFound, CodeSecretNotFound, CodeProxyNotFound, CodeNodeNotFound:
		return http.StatusNotFound
	case CodeMethodNotAllowed:
		return http.StatusMethodNotAllowed
	case CodeRequestTimeout, CodeTooSlow:
		return http.StatusRequestTimeout
	case CodeTenantNotEmpty, CodeTenantProtected, CodeFleetHasProxies, CodeRevisionConflict,
		CodeWouldEmpty, CodeAddressConflict, CodeProxyConnected, CodeWouldLoseQuorum,
		CodeLevelUnsupported, CodeNotFinalized, CodeForeignSnapshot:
		return http.StatusConflict
	case CodeUpgradeRequired:
		return http.StatusUpgradeRequired
	case CodeEpochChanged, CodeEventsGone:
		return http.StatusGone
	case CodeBodyTooLarge:
		return http.StatusRequestEntityTooLarge
	case CodeUnsupportedMedia:
		return http.StatusUnsupportedMediaType
	case CodeIdempotencyMismatch:
		return http.StatusUnprocessableEntity
	case CodeOutboxFull, CodeReadOnly, CodeNoLeader, CodeNotLeader, CodeUnavailable, CodeTimeout, CodeSecretsDisabled,
		CodeArchiveUnavailable, CodeArchiveDisabled, CodeTooManyStreams:
		return http.StatusServiceUnavailable
	case CodeOutcomeUnknown:
		return http.StatusGatewayTimeout
	case CodeStorageFull:
		return http.StatusInsufficientStorage
	default:
		return http.StatusInternalServerError
	}
}
