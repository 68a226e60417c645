package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
)

// maxAnswerBytes bounds what is read of one answer.
const maxAnswerBytes = 256 << 20

// request is one call, whatever the number of attempts.
type request struct {
	method string
	// path is escaped and without a server.
	path  string
	query url.Values
	body  []byte
	// key is the Idempotency-Key, empty for what writes nothing.
	key string
	// upload opens a body that is no JSON, for each attempt.
	upload func() (io.ReadCloser, error)
	// long is the time for one attempt when it is not the usual one.
	long time.Duration
	// endless: the time for one attempt ends when the answer begins.
	endless bool
	// wait is how long the server was asked to hold the answer back.
	wait time.Duration
	// stateless: the path takes no min_index.
	stateless bool
	// once: no second attempt, and an answer of any status will do that is no
	// problem document.
	once bool
}

// get reads one answer into out.
func (c *Client) get(ctx context.Context, path string, query url.Values, out any) error {
	return c.do(ctx, &request{method: http.MethodGet, path: path, query: query}, out)
}

// write sends in as JSON under a new Idempotency-Key; a nil in is no body.
func (c *Client) write(ctx context.Context, method, path string, query url.Values, in, out any) error {
	r := &request{method: method, path: path, query: query, key: newKey()}
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		r.body = body
	}
	if len(r.body) > wire.MaxBodyBytes {
		code := wire.CodeBodyTooLarge
		return &Error{
			Status: code.Status(), Code: code, Title: "Body too large",
			Detail: fmt.Sprintf("the body has %d bytes, the API takes %d; nothing was sent", len(r.body), wire.MaxBodyBytes),
		}
	}
	return c.do(ctx, r, out)
}

// newKey returns an Idempotency-Key that nobody else has.
func newKey() string {
	var key [16]byte
	_, _ = rand.Read(key[:]) // never fails
	return hex.EncodeToString(key[:])
}

// onlyReader hides every method but Read, so that net/http finds no way to
// send a body again.
type onlyReader struct{ io.Reader }

// build makes the HTTP request of one attempt. A write has a body even when it
// is empty, and no GetBody: net/http takes a request with an Idempotency-Key
// for one that it may repeat, and would otherwise repeat it when a connection
// breaks.
func (s *session) build(ctx context.Context, server string, r *request) (*http.Request, error) {
	var body io.Reader
	switch {
	case r.upload != nil:
		file, err := r.upload()
		if err != nil {
			return nil, err
		}
		body = file
	case r.method != http.MethodGet:
		body = onlyReader{bytes.NewReader(r.body)}
	}
	target := server + r.path
	query, epoch := s.queryFor(r)
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, err
	}
	if len(r.body) > 0 {
		req.ContentLength = int64(len(r.body))
		req.Header.Set("Content-Type", wire.MediaJSON)
	}
	if r.upload != nil {
		req.Header.Set("Content-Type", wire.MediaSnapshot)
	}
	req.Header.Set("Accept", wire.MediaJSON)
	if r.endless {
		req.Header.Set("Accept", wire.MediaEvents)
	}
	if r.key != "" {
		req.Header.Set(wire.HeaderIdempotencyKey, r.key)
	}
	if epoch != "" {
		req.Header.Set(wire.HeaderEpoch, epoch)
	}
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	if s.userAgent != "" {
		req.Header.Set("User-Agent", s.userAgent)
	}
	return req, nil
}

// queryFor returns the parameters of an attempt: a read asks for a state that
// is not older than what was seen, and of the same epoch.
func (s *session) queryFor(r *request) (query url.Values, epoch string) {
	if r.method != http.MethodGet || r.stateless {
		return r.query, ""
	}
	query = maps.Clone(r.query)
	if query == nil {
		query = url.Values{}
	}
	if s.strong {
		query.Set("consistency", "strong")
		return query, ""
	}
	index, epoch := s.seen()
	if index > 0 {
		query.Set("min_index", strconv.FormatUint(index, 10))
	}
	return query, epoch
}

// seen returns the highest index of the epoch that answers are from.
func (s *session) seen() (index uint64, epoch string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index, s.epoch
}

// saw remembers the index of an answer, and the epoch that it is of. What is
// below the highest one tells nothing: a node may lag behind a restore.
func (s *session) saw(h http.Header) {
	index, err := strconv.ParseUint(h.Get(wire.HeaderIndex), 10, 64)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || index < s.index {
		return
	}
	s.index = index
	if epoch := h.Get(wire.HeaderEpoch); epoch != "" {
		s.epoch = epoch
	}
}

// forget begins anew: nothing that was seen can be compared with what comes.
func (s *session) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index, s.epoch = 0, ""
}

// pathOf joins and escapes the segments of a path below the API's prefix.
func pathOf(segments ...string) string {
	var b strings.Builder
	b.WriteString(wire.Prefix)
	for _, segment := range segments {
		b.WriteByte('/')
		switch segment {
		case ".", "..": // would be taken for a step in the path
			b.WriteString(strings.ReplaceAll(segment, ".", "%2E"))
		default:
			b.WriteString(url.PathEscape(segment))
		}
	}
	return b.String()
}

// ofTenant is pathOf below the client's tenant.
func (c *Client) ofTenant(segments ...string) string {
	return pathOf(append([]string{"tenants", c.tenant}, segments...)...)
}
