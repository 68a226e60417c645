package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Exit codes, as of ecpctl.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitTimeout = 3 // --timeout ran out
)

// errTimeout is why the context of a run ends when its time is up.
var errTimeout = errors.New("--timeout ran out")

// usageError is a mistake of the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }

func (e *usageError) Unwrap() error { return e.err }

func misuse(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// report says what went wrong and returns the exit code.
func (a *app) report(err error) int {
	if err == nil {
		return exitDone
	}
	if errors.Is(err, context.Canceled) && !errors.Is(err, errTimeout) {
		err = errors.New("interrupted")
	}
	a.note("ecpbench: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
	if _, ok := errors.AsType[*usageError](err); ok {
		a.note(`Run it with "--help" for what there is, and examples.`)
		return exitUsage
	}
	if errors.Is(err, errTimeout) {
		return exitTimeout
	}
	return exitFailed
}

// note says something on standard error.
func (a *app) note(format string, args ...any) {
	_, _ = fmt.Fprintf(a.err, format+"\n", args...)
}
