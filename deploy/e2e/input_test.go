package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestBadInput wants a 4xx problem with its stable code for each mistake, and
// nothing stored.
func TestBadInput(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, "")
	api := c.urls[0] + "/api/v1"
	fleet := api + "/tenants/default/fleets/edge"
	put(t, fleet, `{}`)
	changes := fleet + "/changes"
	large := `{"message": "` + strings.Repeat("x", 11<<20) + `"}`
	const deep = `{"upsert": [{"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": "l",
		"filter_chains": [{"filters": [{"name": "f", "typed_config": {
		"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"}}]}]}]}`
	for _, tc := range []struct {
		name, method, url, media, encoding, body string
		status                                   int
		code, path                               string
	}{
		{name: "broken JSON", url: changes, body: `{"upsert": [`, status: 400, code: "malformed_json"},
		{name: "unknown field", url: changes, body: `{"upsrt": []}`, status: 400, code: "unknown_field", path: "upsrt"},
		{
			name: "unknown field of a resource", url: changes, status: 400, code: "unknown_field", path: "upsert[0].nam",
			body: `{"upsert": [{"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "x", "nam": "x"}]}`,
		},
		{name: "unknown @type", url: changes, body: `{"upsert": [{"@type": "type.googleapis.com/a.B"}]}`, status: 400, code: "unknown_type", path: "upsert[0].@type"},
		{
			name: "a rule deep inside", url: changes, body: deep, status: 400, code: "invalid_resource",
			path: "upsert[0].filter_chains[0].filters[0].typed_config.stat_prefix",
		},
		{name: "wrong expect_revision", url: changes, body: `{"expect_revision": 7}`, status: 409, code: "revision_conflict"},
		{name: "11 MB", url: changes, body: large, status: 413, code: "body_too_large"},
		{name: "11 MB compressed", url: changes, body: squeeze(t, large), encoding: "gzip", status: 413, code: "body_too_large"},
		{name: "unknown path", method: http.MethodGet, url: api + "/nothing", status: 404, code: "unknown_path"},
		{name: "wrong method", method: http.MethodPatch, url: fleet, status: 405, code: "method_not_allowed"},
		{name: "wrong media type", url: changes, media: "text/csv", body: `a,b`, status: 415, code: "unsupported_media_type"},
		{name: "unknown tenant", method: http.MethodGet, url: api + "/tenants/none", status: 404, code: "tenant_not_found"},
		{name: "unknown fleet", url: strings.Replace(changes, "edge", "none", 1), body: `{}`, status: 404, code: "fleet_not_found"},
		{name: "a name outside the pattern", method: http.MethodPut, url: api + "/tenants/default/fleets/No%20Fleet", body: `{}`, status: 400, code: "invalid_name"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), orPost(tc.method), tc.url, strings.NewReader(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			if tc.media != "" {
				req.Header.Set("Content-Type", tc.media)
			}
			if tc.encoding != "" {
				req.Header.Set("Content-Encoding", tc.encoding)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			raw, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			var problem struct {
				Type, Title, Detail, Code string
				Status                    int
				Errors                    []struct{ Path string }
			}
			if err := json.Unmarshal(raw, &problem); err != nil {
				t.Fatalf("%s: %v", raw, err)
			}
			if resp.StatusCode != tc.status || problem.Status != tc.status || problem.Code != tc.code || problem.Title == "" || problem.Type == "" {
				t.Errorf("got %d %s, want %d %s", resp.StatusCode, raw, tc.status, tc.code)
			}
			if resp.Header.Get("Content-Type") != "application/problem+json" || resp.Header.Get("Ecp-Index") == "" {
				t.Errorf("headers %v", resp.Header)
			}
			if tc.path != "" && (len(problem.Errors) == 0 || problem.Errors[0].Path != tc.path) {
				t.Errorf("paths %+v, want %s", problem.Errors, tc.path)
			}
			if tc.status == http.StatusMethodNotAllowed && resp.Header.Get("Allow") == "" {
				t.Error("no Allow header")
			}
		})
	}
	var row struct{ Revision uint64 }
	if err := get(fleet, &row); err != nil || row.Revision != 0 {
		t.Errorf("something was stored: %+v, %v", row, err)
	}
}

func orPost(method string) string {
	if method == "" {
		return http.MethodPost
	}
	return method
}

func squeeze(t *testing.T, text string) string {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}
