package resource_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/org/envoy-control-plane/api/resource"
	"github.com/org/envoy-control-plane/api/wire"
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

// FuzzDecodeEndpoints: no input does harm, and what is taken the short way is
// what the long way takes.
func FuzzDecodeEndpoints(f *testing.F) {
	for _, raw := range []string{
		plainAssignment,
		`{"clusterName": "web", "endpoints": []}`,
		`{"cluster_name": "", "endpoints": []}`,
		`{"cluster_name": null, "endpoints": null, "policy": {"drop_overloads": [{"category": "x", "drop_percentage": {"numerator": 1e1}}]}}`,
		`{"named_endpoints": {"a": {"address": {"pipe": {"path": "/x"}}}, "b": {}}, "policy": {"endpoint_stale_after": "1.5s"}}`,
		`{"endpoints": [{"locality": {"zone": "z"}, "load_balancing_weight": 3, "priority": 1, "lb_endpoints": [{"metadata": {"filter_metadata":
			{"envoy.lb": {"a": [1, null, {"b": -0.5}]}}, "typed_filter_metadata": {"x": {}}}, "health_status": "DRAINING", "endpoint_name": "n"}]}]}`,
	} {
		f.Add([]byte(raw))
	}
	d := resource.New()
	f.Fuzz(func(t *testing.T, raw []byte) {
		body, hash, problems := d.DecodeEndpoints("web", raw)
		if (hash == nil) != (len(problems) > 0) {
			t.Fatalf("%x %x with %v", body, hash, problems)
		}
		longBody, longHash, longProblems := d.DecodeEndpointsAnyhow("web", raw)
		if !bytes.Equal(body, longBody) || !bytes.Equal(hash, longHash) || !slices.Equal(problems, longProblems) {
			t.Fatalf("%q: %x %v, the long way %x %v", raw, body, problems, longBody, longProblems)
		}
	})
}

const plainAssignment = `{"endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": "1.2.3.4", "port_value": 80}}}}]}]}`

// Most endpoints must be taken the short way, or it were of no use.
func TestPlainEndpointsAreTakenTheShortWay(t *testing.T) {
	for raw, plain := range map[string]bool{
		plainAssignment: true,
		`{"cluster_name": "web", "endpoints": [{"priority": 1}]}`:     true,
		`{"cluster_name": "other"}`:                                   false,
		`{"@type": "type.googleapis.com/x"}`:                          false,
		`{"endpoints": [{"lb_endpoints": [{"endpoint": {"x": 1}}]}]}`: false,
		`{"endpoints": [{"priority": 1000}]}`:                         false,
		`{"named_endpoints": {"\u0061": {}}}`:                         false,
		`{"named_endpoints": {"-----BEGIN PRIVATE KEY-----": {}}}`:    false,
	} {
		if resource.PlainEndpoints("web", []byte(raw)) != plain {
			t.Errorf("%s: want plain %v", raw, plain)
		}
	}
}

// What plainEndpoints relies on: no field is marked as sensitive.
func TestEndpointsHaveNoSecrets(t *testing.T) {
	if found := resource.Sensitive((&endpointv3.ClusterLoadAssignment{}).ProtoReflect().Descriptor()); len(found) > 0 {
		t.Errorf("a ClusterLoadAssignment has %v", found)
	}
	if len(resource.Sensitive((&tlsv3.Secret{}).ProtoReflect().Descriptor())) == 0 {
		t.Error("a Secret has nothing that is marked")
	}
}

func BenchmarkDecodeEndpoints(b *testing.B) {
	d := resource.New()
	for name, decode := range map[string]func(string, []byte) ([]byte, []byte, []wire.FieldError){
		"short": d.DecodeEndpoints, "long": d.DecodeEndpointsAnyhow,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, problems := decode("web", []byte(plainAssignment)); len(problems) > 0 {
					b.Fatal(problems)
				}
			}
		})
	}
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
