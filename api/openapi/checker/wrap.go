package checker

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// Handler wraps a server: every exchange is checked after it has been
// answered, and what is wrong reported. Bodies are kept in memory.
func (c *Checker) Handler(next http.Handler, report func(error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent := &buffer{}
		asked := r.Clone(r.Context())
		r.Body = tee{io.TeeReader(r.Body, sent), r.Body}
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(rec, r)
		c.report(Exchange{
			Request: asked, RequestBody: sent.copy(), Status: rec.status, Header: rec.Header().Clone(), Body: rec.body.Bytes(),
		}, report)
	})
}

// RoundTripper wraps a client's transport in the same way.
func (c *Checker) RoundTripper(next http.RoundTripper, report func(error)) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		sent := &buffer{}
		asked := r.Clone(r.Context())
		if r.Body != nil {
			r = r.Clone(r.Context())
			r.Body = tee{io.TeeReader(r.Body, sent), r.Body}
		}
		answer, err := next.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		got, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close() // read to its end, or failed
		if err != nil {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
		answer.Body = body(got)
		c.report(Exchange{
			Request: asked, RequestBody: sent.copy(), Status: answer.StatusCode, Header: answer.Header.Clone(), Body: got,
		}, report)
		return answer, nil
	})
}

// report checks an exchange whose bodies may be compressed.
func (c *Checker) report(x Exchange, report func(error)) {
	if x.Status < 400 {
		x.RequestBody = inflate(x.RequestBody, x.Request.Header)
	}
	x.Body = inflate(x.Body, x.Header)
	if err := c.Check(x.Request.Context(), x); err != nil {
		report(err)
	}
}

// inflate returns a body without its compression; as it is when it has none
// or is damaged, for the schema to complain.
func inflate(raw []byte, header http.Header) []byte {
	if header.Get("Content-Encoding") != "gzip" {
		return raw
	}
	r, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return raw
	}
	out, err := io.ReadAll(r)
	if err != nil {
		return raw
	}
	return out
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// buffer keeps a request's body. A transport may still be sending it when the
// answer is there.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) copy() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.buf.Bytes())
}

// tee reads through, and closes what is read.
type tee struct {
	io.Reader
	io.Closer
}

// recorder keeps what a handler answers.
type recorder struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	r.body.Write(p)
	return r.ResponseWriter.Write(p)
}

// Flush sends what a stream has so far.
func (r *recorder) Flush() { _ = http.NewResponseController(r.ResponseWriter).Flush() }

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func body(raw []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(raw)) }

func decode(raw []byte) (any, error) {
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return nil, fmt.Errorf("the answer is no JSON: %w", err)
	}
	return value, nil
}
