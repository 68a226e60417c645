package api

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
)

// problemType precedes the code in a problem's type.
const problemType = "urn:ecp:problem:"

// refuse returns a problem as an error that handlers return.
func refuse(code wire.Code, format string, args ...any) *wire.Problem {
	title := strings.ReplaceAll(string(code), "_", " ")
	return &wire.Problem{
		Type:   problemType + string(code),
		Title:  strings.ToUpper(title[:1]) + title[1:],
		Status: code.Status(),
		Detail: fmt.Sprintf(format, args...),
		Code:   code,
	}
}

// refuseParameter refuses one query parameter.
func refuseParameter(name, format string, args ...any) *wire.Problem {
	p := refuse(wire.CodeInvalidParameter, "the query parameter %s is not allowed as it is", name)
	p.Errors = []wire.FieldError{{Path: "query." + name, Detail: fmt.Sprintf(format, args...)}}
	return p
}

// refuseAll refuses a body for every mistake in it. Mistakes of one kind give
// the problem their code; rules that are broken beside them may be broken
// because of them, and do not count.
func refuseAll(errs []wire.FieldError) *wire.Problem {
	code := wire.CodeInvalidResource
	for _, e := range errs {
		switch {
		case e.Code == code || e.Code == wire.CodeInvalidResource:
		case code == wire.CodeInvalidResource && e.Code != "":
			code = e.Code
		default:
			code = wire.CodeInvalid
		}
	}
	what := "the body has a mistake"
	if len(errs) > 1 {
		what = fmt.Sprintf("the body has %d mistakes", len(errs))
	}
	p := refuse(code, "%s", what)
	p.Errors = errs
	return p
}

// problemOf returns the problem that an error is answered with. What carries
// no code is a defect; its text stays in the log.
func problemOf(err error) *wire.Problem {
	if p, ok := errors.AsType[*wire.Problem](err); ok {
		return p
	}
	if e, ok := errors.AsType[*fsm.Error](err); ok {
		p := refuse(wire.Code(e.Code), "%s", e.Detail)
		for _, f := range e.Errors {
			p.Errors = append(p.Errors, wire.FieldError{Path: f.GetPath(), Detail: f.GetDetail()})
		}
		return p
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return refuse(wire.CodeTimeout, "the node could not answer in time")
	case errors.Is(err, context.Canceled):
		return refuse(wire.CodeUnavailable, "the request was given up")
	}
	return refuse(wire.CodeInternal, "the node failed; its log has the reason under the request id")
}

// retryAfter says in how many seconds a refused request may be sent again,
// "" when there is no point.
func retryAfter(code wire.Code) string {
	switch code {
	case wire.CodeNoLeader, wire.CodeNotLeader, wire.CodeUnavailable, wire.CodeTimeout:
		return "1"
	case wire.CodeOutboxFull, wire.CodeReadOnly, wire.CodeArchiveUnavailable, wire.CodeStorageFull, wire.CodeTooManyStreams:
		return "5"
	case wire.CodeSecretsDisabled, wire.CodeArchiveDisabled: // until somebody gives it a key, a database
		return "60"
	default:
		return ""
	}
}

// dependsOnState reports whether an error is a local "no" that a node which
// lags might say wrongly.
func dependsOnState(err error) bool {
	status := problemOf(err).Status
	return status == 404 || status == 409
}
