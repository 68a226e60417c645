package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/org/envoy-control-plane/api/openapi/checker"
)

// checked returns where a node can be reached so that every exchange is held
// against the OpenAPI document. A connection that breaks behind it breaks in
// front too.
func checked(t *testing.T, node string) string {
	t.Helper()
	target, err := url.Parse(node)
	if err != nil {
		t.Fatal(err)
	}
	check, err := checker.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:    &http.Transport{DisableCompression: true},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	server := httptest.NewServer(check.Handler(proxy, func(err error) { t.Error(err) }))
	t.Cleanup(server.Close)
	return server.URL
}
