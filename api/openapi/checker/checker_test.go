package checker_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/org/envoy-control-plane/api/openapi/checker"
)

// says answers every request alike.
func says(status int, media, body string, header ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the checker sees what the server reads
		w.Header().Set("Ecp-Index", "7")
		w.Header().Set("X-Request-Id", "x")
		w.Header().Set("Content-Type", media)
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // recorders do not fail
	})
}

const (
	js      = "application/json"
	prob    = "application/problem+json"
	tenant  = `{"name":"a","index":1,"labels":{}}`
	problem = `{"type":"t","title":"t","status":404,"code":"unknown_path","request_id":"x"}`
)

// TestCheckerComplains about each way to stray from the document, and about
// nothing else.
func TestCheckerComplains(t *testing.T) {
	check, err := checker.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const path = "/api/v1/tenants/a"
	for _, c := range []struct {
		name, method, url, body string
		server                  http.Handler
		want                    string
	}{
		{"good", "GET", path, "", says(200, js, tenant), ""},
		{"problem", "GET", path, "", says(404, prob, problem), ""},
		{"unknown path", "GET", "/nope", "", says(404, prob, problem), ""},
		{"good body", "PUT", path, `{"labels":{"a":"b"}}`, says(201, js, tenant), ""},
		{"bad body refused", "PUT", path, `{"nope":1}`, says(400, prob, problem), ""},
		{"encoded slash", "GET", "/api/v1/tenants/a/endpoints/x%2Fy", "", says(404, prob, problem), ""},

		{"unknown field", "GET", path, "", says(200, js, `{"name":"a","index":1,"labels":{},"x":1}`), "not what the document says"},
		{"missing field", "GET", path, "", says(200, js, `{"name":"a","index":1}`), "not what the document says"},
		{"wrong type", "GET", path, "", says(200, js, `{"name":1,"index":1,"labels":{}}`), "not what the document says"},
		{"wrong media", "GET", path, "", says(200, "text/plain", tenant), "not what the document says"},
		{"unlisted code", "GET", path, "", says(404, prob, strings.Replace(problem, "unknown_path", "oops", 1)), "not what the document says"},
		{"no index", "GET", path, "", says(200, js, tenant, "Ecp-Index", ""), "lacks"},
		{"no retry", "GET", path, "", says(503, prob, strings.Replace(problem, "404", "503", 1)), "Retry-After"},
		{"401", "GET", path, "", says(401, prob, strings.Replace(problem, "404", "401", 1)), "WWW-Authenticate"},
		{"bad body taken", "PUT", path, `{"nope":1}`, says(201, js, tenant), "forbids the request"},
		{"bad query taken", "GET", path + "?x=1", "", says(200, js, tenant), "no query parameter"},
		{"bad name taken", "GET", "/api/v1/tenants/A", "", says(200, js, tenant), "forbids the request"},
		{"unknown path taken", "GET", "/nope", "", says(200, js, `{}`), "no such operation"},
		{"405 without Allow", "PATCH", path, "", says(405, prob, problem), "Allow"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			report := func(err error) { got = err.Error() }
			r := httptest.NewRequestWithContext(t.Context(), c.method, c.url, strings.NewReader(c.body))
			check.Handler(c.server, report).ServeHTTP(httptest.NewRecorder(), r)
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("as a server: %q, want %q", got, c.want)
			}
			got = ""
			ts := httptest.NewServer(c.server)
			defer ts.Close()
			r, err := http.NewRequestWithContext(t.Context(), c.method, ts.URL+c.url, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := check.RoundTripper(http.DefaultTransport, report).RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("as a client: %q, want %q", got, c.want)
			}
		})
	}
}
