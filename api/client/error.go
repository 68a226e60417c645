package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
)

// ErrOutcomeUnknown is in the error of a write that may have been applied or
// not: an attempt ended without an answer and no later one brought any.
var ErrOutcomeUnknown = errors.New("it is not known whether the write was applied")

// Error is an answer that says no.
type Error struct {
	Status int
	// Code is empty when something other than a node answered.
	Code   wire.Code
	Title  string
	Detail string
	// Errors names every mistake of a bad body.
	Errors []wire.FieldError
	// Oldest, with events_gone, is the number of the oldest event that is left.
	Oldest    uint64
	RequestID string
	// Server that answered.
	Server string

	// retryAfter is how long the server wants to be left alone; negative
	// when it said nothing.
	retryAfter time.Duration
}

// Error returns the code, the detail and every path, a line each.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Summary())
	for _, f := range e.Errors {
		fmt.Fprintf(&b, "\n  %s: %s", f.Path, f.Detail)
	}
	return b.String()
}

// Summary is Error without the paths.
func (e *Error) Summary() string {
	name := string(e.Code)
	if name == "" {
		name = fmt.Sprintf("%s answered %d %s", e.Server, e.Status, http.StatusText(e.Status))
	}
	if e.Detail == "" {
		return name
	}
	return name + ": " + e.Detail
}

// CodeOf returns the code of an error's answer, "" when it has none.
func CodeOf(err error) wire.Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}

// answerError reads an answer that is not 2xx.
func answerError(server string, answer *http.Response, body []byte) *Error {
	e := &Error{Status: answer.StatusCode, Server: server, retryAfter: retryAfter(answer.Header)}
	var p wire.Problem
	if err := json.Unmarshal(body, &p); err == nil && p.Code != "" {
		e.Code, e.Title, e.Detail, e.Errors, e.RequestID, e.Oldest = p.Code, p.Title, p.Detail, p.Errors, p.RequestID, p.Oldest
		return e
	}
	e.Detail = excerpt(body)
	return e
}

func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return -1
	}
	return time.Duration(seconds) * time.Second
}

// excerpt is the beginning of a body that no node wrote, on one line.
func excerpt(body []byte) string {
	const most = 200
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(body[:min(len(body), 4*most)]), "")), " ")
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "..."
	}
	return text
}
