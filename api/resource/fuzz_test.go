package resource_test

import (
	"encoding/json"
	"strconv"
	"testing"

	"github.com/org/envoy-control-plane/api/resource"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// roundTrip wants the same resource from what one renders as.
func roundTrip(t *testing.T, r *fsmpb.Resource) {
	t.Helper()
	raw, err := resource.New().JSON(r.TypeUrl, r.Body)
	if err != nil {
		t.Fatal(err)
	}
	form := map[string]any{
		"name": r.Name, "ttl": strconv.FormatFloat(float64(r.TtlMs)/1000, 'f', 3, 64) + "s", "resource": json.RawMessage(raw),
	}
	if r.Aliases != nil {
		form["aliases"] = r.Aliases
	}
	text, err := json.Marshal(form)
	if err != nil {
		t.Fatal(err)
	}
	again, problems := resource.New().Decode("", text)
	if len(problems) > 0 {
		t.Fatalf("%s: %+v", text, problems)
	}
	if string(again.Hash) != string(r.Hash) || string(again.Body) != string(r.Body) || again.TypeUrl != r.TypeUrl || again.Name != r.Name {
		t.Fatalf("another resource:\n%s", text)
	}
}

// FuzzDecode: no input does harm, a refusal has reasons, and what is taken
// shows as what it was.
func FuzzDecode(f *testing.F) {
	for _, raw := range []string{
		listener(rds, `{"name": "own", "typed_config": {"@type": "type.googleapis.com/acme.Filter", "value": "CgF4"}},`),
		listener(routes(`"route": {"cluster": "a", "timeout": "1.5s"}`), ""),
		cluster(`, "type": "EDS", "connectTimeout": "0.25s"`),
		`{"name": "x", "ttl": "5s", "aliases": ["y"], "resource": {"@type": "a/b.C", "value": ""}}`,
		extension(`{"@type": "type.googleapis.com/google.protobuf.Empty", "value": {}}`),
		extension(`{"@type": "type.googleapis.com/google.protobuf.Any", "value": {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1s"}}`),
		extension(`{"@type": "type.googleapis.com/xds.type.v3.TypedStruct", "type_url": "a/b", "value": {"k": [1e3, null, {"x": -0.5}]}}`),
		`{"@type": "type.googleapis.com/envoy.config.route.v3.VirtualHost", "route_config": "r", "name": "h", "domains": ["a.com", "*"]}`,
		`{"@type": "type.googleapis.com/envoy.service.runtime.v3.Runtime", "name": "rt", "layer": {"a": {"b": null}}}`,
	} {
		f.Add([]byte(raw))
	}
	d := resource.New()
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, problems := d.Decode("upsert[0]", raw)
		if (r == nil) != (len(problems) > 0) {
			t.Fatalf("%v with %v", r, problems)
		}
		if r != nil {
			roundTrip(t, r)
		}
	})
}

func FuzzDecodeEndpoints(f *testing.F) {
	f.Add([]byte(`{"endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": "1.2.3.4", "port_value": 80}}}}]}]}`))
	f.Add([]byte(`{"clusterName": "web", "endpoints": []}`))
	d := resource.New()
	f.Fuzz(func(t *testing.T, raw []byte) {
		body, hash, problems := d.DecodeEndpoints("web", raw)
		if (hash == nil) != (len(problems) > 0) {
			t.Fatalf("%x %x with %v", body, hash, problems)
		}
	})
}

func BenchmarkDecodeCluster(b *testing.B) {
	d, raw := resource.New(), []byte(cluster(`, "type": "EDS", "connect_timeout": "1s", "eds_cluster_config": {"eds_config": {"ads": {}}},
		"health_checks": [{"timeout": "1s", "interval": "5s", "unhealthy_threshold": 3, "healthy_threshold": 2, "http_health_check": {"path": "/"}}],
		"transport_socket": {"name": "tls", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
		"common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": "cert", "sds_config": {"ads": {}}}]}}}`))
	b.ReportAllocs()
	for b.Loop() {
		if _, problems := d.Decode("", raw); len(problems) > 0 {
			b.Fatal(problems)
		}
	}
}
