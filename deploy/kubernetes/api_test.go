//go:build deploy

package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
)

// api is the API server, as a client with all rights sees it.
type api struct {
	url, token string
	authority  string // file of the certificate
	http       *http.Client
}

type request struct {
	method, path string
	kind         string // content type; empty: JSON
	body         any
}

// refusal is an answer that is no success.
type refusal struct {
	code int
	text string
}

func (r *refusal) Error() string { return fmt.Sprintf("%d: %s", r.code, r.text) }

// do sends a request and decodes the answer into out, unless that is nil.
func (a *api) do(ctx context.Context, r request, out any) error {
	var body io.Reader
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, a.url+r.path, body)
	if err != nil {
		return err
	}
	if r.kind == "" {
		r.kind = "application/json"
	}
	req.Header.Set("Content-Type", r.kind)
	req.Header.Set("Authorization", "Bearer "+a.token)
	res, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode >= http.StatusBadRequest {
		return &refusal{res.StatusCode, string(text)}
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// get returns the object, or the list, at a path.
func get[T any](t *testing.T, path string) *T {
	t.Helper()
	var out T
	if err := server.do(t.Context(), request{method: http.MethodGet, path: path}, &out); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return &out
}

func setPath(namespace, name string) string {
	return "/apis/apps/v1/namespaces/" + namespace + "/statefulsets/" + name
}

func podsPath(namespace string) string { return "/api/v1/namespaces/" + namespace + "/pods" }
