package wire

import "fmt"

// Problem is the body of every error: an RFC 9457 problem document.
type Problem struct {
	// Type is a URI reference that names the kind of problem.
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	// Detail is about this occurrence, for people.
	Detail string `json:"detail,omitempty"`
	Code   Code   `json:"code"`
	// Errors names every mistake of a bad body or query, not the first.
	Errors []FieldError `json:"errors,omitempty"`
	// Oldest, with events_gone, is the number of the oldest event that is still
	// there, or of the next one: streams can begin at since = Oldest - 1.
	Oldest uint64 `json:"oldest,omitempty"`
	// RequestID finds the request in the node's log.
	RequestID string `json:"request_id,omitempty"`
}

// FieldError is one mistake, or one warning, and where it is.
type FieldError struct {
	// Path into the body, "upsert[0].virtual_hosts[1].name", or
	// "query.limit", "header.Idempotency-Key"; empty for the whole.
	Path   string `json:"path"`
	Detail string `json:"detail"`
	// Code is set where it differs from, or refines, the problem's.
	Code Code `json:"code,omitempty"`
}

// Error makes a Problem usable as an error.
func (p *Problem) Error() string {
	text := fmt.Sprintf("%d %s", p.Status, p.Code)
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	for _, e := range p.Errors {
		text += fmt.Sprintf("\n  %s: %s", e.Path, e.Detail)
	}
	return text
}
