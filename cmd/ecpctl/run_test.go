package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/org/envoy-control-plane/api/wire"
)

// result is what one run of the program came to.
type result struct {
	t           *testing.T
	code        int
	out, stderr string
}

// ecpctl runs a command line against a server.
func ecpctl(t *testing.T, server, stdin string, args ...string) *result {
	t.Helper()
	for _, name := range []string{"ECP_SERVER", "ECP_TENANT", "ECP_TOKEN", "ECP_TOKEN_FILE", "JWT_SECRET", "JWT_SECRET_FILE"} {
		if _, ok := os.LookupEnv(name); ok && server != "" {
			t.Fatalf("%s is set", name)
		}
	}
	if server != "" {
		args = append([]string{"--server", server}, args...)
	}
	var out, stderr bytes.Buffer
	code := run(t.Context(), args, strings.NewReader(stdin), &out, &stderr)
	return &result{t, code, out.String(), stderr.String()}
}

// exits fails the test unless the exit code is this one.
func (r *result) exits(code int) *result {
	r.t.Helper()
	if r.code != code {
		r.t.Fatalf("exit code is %d, want %d\n%s%s", r.code, code, r.out, r.stderr)
	}
	return r
}

// prints fails the test unless standard output has all these texts.
func (r *result) prints(texts ...string) *result {
	r.t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.out, text) {
			r.t.Errorf("output has no %q:\n%s", text, r.out)
		}
	}
	return r
}

// complains fails the test unless standard error has all these texts.
func (r *result) complains(texts ...string) *result {
	r.t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.stderr, text) {
			r.t.Errorf("standard error has no %q:\n%s", text, r.stderr)
		}
	}
	return r
}

// decode reads standard output as JSON.
func decode[T any](r *result) T {
	r.t.Helper()
	var v T
	if err := json.Unmarshal([]byte(r.out), &v); err != nil {
		r.t.Fatalf("output is not JSON: %v\n%s", err, r.out)
	}
	return v
}

// canned is a server with fixed answers by "METHOD /path" below the API's
// prefix. It keeps what it was asked.
type canned struct {
	url     string
	answers map[string]func(w http.ResponseWriter, r *http.Request, body []byte)

	mu    sync.Mutex
	asked []string
	// bodies are the last ones by "METHOD /path".
	bodies map[string]string
}

func newCanned(t *testing.T) *canned {
	t.Helper()
	c := &canned{
		answers: map[string]func(http.ResponseWriter, *http.Request, []byte){}, bodies: map[string]string{},
	}
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	c.url = s.URL
	return c
}

func (c *canned) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	what := r.Method + " " + strings.TrimPrefix(r.URL.EscapedPath(), wire.Prefix)
	c.mu.Lock()
	c.asked = append(c.asked, what)
	c.bodies[what] = string(body)
	answer := c.answers[what]
	c.mu.Unlock()
	if answer == nil {
		problem(w, wire.CodeUnknownPath)
		return
	}
	answer(w, r, body)
}

// on sets the answer to a request.
func (c *canned) on(what string, status int, body any) {
	c.onFunc(what, func(w http.ResponseWriter, _ *http.Request, _ []byte) { reply(w, status, body) })
}

func (c *canned) onFunc(what string, answer func(w http.ResponseWriter, r *http.Request, body []byte)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[what] = answer
}

// order is what was asked, in order.
func (c *canned) order() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.asked, "\n")
}

func (c *canned) body(what string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bodies[what]
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", wire.MediaJSON)
	w.Header().Set(wire.HeaderIndex, "7")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func problem(w http.ResponseWriter, code wire.Code, errs ...wire.FieldError) {
	w.Header().Set("Content-Type", wire.MediaProblem)
	w.WriteHeader(code.Status())
	detail := "about " + string(code)
	if len(errs) > 0 {
		detail = "the body has a mistake; " + errs[0].Path + ": " + errs[0].Detail
	}
	_ = json.NewEncoder(w).Encode(wire.Problem{
		Status: code.Status(), Code: code, Detail: detail, Errors: errs, RequestID: "r1",
	})
}

// write makes files below a new folder and returns it.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
