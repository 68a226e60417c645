package fsm

import (
	"errors"
	"fmt"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Code is a stable, machine-readable reason of a refusal. Clients see it as
// the code of a problem document; package api maps it to an HTTP status.
type Code string

// Codes that Apply decides.
const (
	CodeInvalid             Code = "invalid_argument"
	CodeTenantNotFound      Code = "tenant_not_found"
	CodeTenantNotEmpty      Code = "tenant_not_empty"
	CodeTenantProtected     Code = "tenant_protected"
	CodeFleetNotFound       Code = "fleet_not_found"
	CodeFleetHasProxies     Code = "fleet_has_proxies"
	CodeRevisionConflict    Code = "revision_conflict"
	CodeRevisionNotFound    Code = "revision_not_found"
	CodeWouldEmpty          Code = "would_empty"
	CodeAddressConflict     Code = "address_conflict"
	CodeEndpointsNotFound   Code = "endpoints_not_found"
	CodeSecretNotFound      Code = "secret_not_found"
	CodeProxyNotFound       Code = "proxy_not_found"
	CodeProxyConnected      Code = "proxy_connected"
	CodeIdempotencyMismatch Code = "idempotency_mismatch"
	CodeOutboxFull          Code = "outbox_full"
	CodeReadOnly            Code = "read_only"
	CodeEpochChanged        Code = "epoch_changed"
)

// Codes of what stands between a request and Apply.
const (
	CodeNoLeader       Code = "no_leader"       // certainly not applied
	CodeNotLeader      Code = "not_leader"      // certainly not applied
	CodeUnavailable    Code = "unavailable"     // certainly not applied
	CodeStorageFull    Code = "storage_full"    // certainly not applied
	CodeOutcomeUnknown Code = "outcome_unknown" // may be applied
	CodeTimeout        Code = "timeout"         // of a read or a wait
)

// Codes of refused changes of the cluster's membership and feature level.
const (
	CodeNodeNotFound     Code = "node_not_found"
	CodeWouldLoseQuorum  Code = "would_lose_quorum"
	CodeLevelUnsupported Code = "level_unsupported" // by a binary
	CodeNotFinalized     Code = "not_finalized"     // the cluster's level is too low
)

// Error is a coded refusal.
type Error struct {
	Code   Code
	Detail string
	// Errors names every mistake of a bad body by its path.
	Errors []*fsmpb.FieldError
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Detail }

// Refusal returns an Error with a formatted detail.
func Refusal(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// CodeOf returns the code that err carries, "" when it carries none.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}

// ResultError returns the refusal that r is, nil when it was applied.
func ResultError(r *fsmpb.Result) error {
	if r.GetCode() == "" {
		return nil
	}
	return &Error{Code: Code(r.GetCode()), Detail: r.GetDetail(), Errors: r.GetErrors()}
}

// refused turns a refusal into the result that a command answers.
func (e *Error) result() *fsmpb.Result {
	return &fsmpb.Result{Code: string(e.Code), Detail: e.Detail, Errors: e.Errors}
}
