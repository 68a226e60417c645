package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

// Exit codes.
const (
	exitDone     = 0
	exitFailed   = 1 // refused, or failed
	exitUsage    = 2
	exitWait     = 3 // --wait ran out
	exitRejected = 4 // a proxy rejects the configuration
)

// exitError ends the process with a code. Without an err all has been said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// misuse is an error of the command line.
func misuse(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// report says what went wrong and returns the exit code.
func (a *app) report(err error) int {
	if err == nil {
		return exitDone
	}
	code := exitFailed
	if e, ok := errors.AsType[*exitError](err); ok {
		code = e.code
		if e.err == nil {
			return code
		}
	}
	for i, line := range strings.Split(summary(err), "\n") {
		if i == 0 {
			a.note("ecpctl: %s", clean(line))
		} else {
			a.note("  %s", strings.TrimSpace(clean(line)))
		}
	}
	if e, ok := errors.AsType[*client.Error](err); ok {
		for _, f := range e.Errors {
			a.note("  %s", clean(place(f)))
		}
		if e.Status >= 500 && e.RequestID != "" {
			a.note("  request id: %s", clean(e.RequestID))
		}
	}
	if hint := hintFor(err, code); hint != "" {
		a.note("%s", hint)
	}
	return code
}

// summary is an error without the paths of a refusal, which follow by
// themselves. Several errors are a line each.
func summary(err error) string {
	e, isAnswer := errors.AsType[*client.Error](err)
	switch {
	case isAnswer && errors.Is(err, client.ErrOutcomeUnknown):
		return client.ErrOutcomeUnknown.Error() + ": " + e.Summary()
	case isAnswer:
		return e.Summary()
	case errors.Is(err, context.Canceled):
		return "interrupted"
	default:
		return err.Error()
	}
}

// place is a mistake or a warning with where it is.
func place(f wire.FieldError) string {
	if f.Path == "" {
		return f.Detail
	}
	return f.Path + ": " + f.Detail
}

func hintFor(err error, code int) string {
	switch {
	case code == exitUsage:
		return `Run it with "--help" for what there is, and examples.`
	case client.CodeOf(err) == wire.CodeUnauthenticated:
		return "A token is given by --token or ECP_TOKEN; \"ecpctl token create\" makes one."
	case client.CodeOf(err) == wire.CodeWouldEmpty:
		return "Should it be so, repeat it with --force."
	case client.CodeOf(err) == wire.CodeReadOnly:
		return `"ecpctl cluster read-only off" lets writes pass again.`
	case errors.Is(err, client.ErrOutcomeUnknown):
		return "See what is there (\"ecpctl get\", \"ecpctl history\") before you repeat it."
	case isDial(err):
		return "The nodes are named by --server or ECP_SERVER."
	default:
		return ""
	}
}

// isDial reports whether no node could be connected to.
func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}
