package resource_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/org/envoy-control-plane/api/resource"
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

const hcm = `{"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
	"stat_prefix": "edge", %s,
	"http_filters": [%s{"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}`

func listener(routes, filters string) string {
	return fmt.Sprintf(`{"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": "l",
	"address": {"socket_address": {"address": "0.0.0.0", "port_value": 80}},
	"filter_chains": [{"filters": [{"name": "hcm", "typed_config": %s}]}]}`, fmt.Sprintf(hcm, routes, filters))
}

const rds = `"rds": {"route_config_name": "r", "config_source": {"ads": {}}}`

func routes(route string) string {
	return fmt.Sprintf(`"route_config": {"name": "r", "virtual_hosts": [{"name": "h", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, %s}]}]}`, route)
}

func cluster(fields string) string {
	return fmt.Sprintf(`{"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "web"%s}`, fields)
}

func decode(t *testing.T, raw string) *fsmpb.Resource {
	t.Helper()
	r, problems := resource.New().Decode("upsert[0]", []byte(raw))
	if len(problems) > 0 {
		t.Fatalf("%s: %+v", raw, problems)
	}
	again, binds, err := resource.New().Extract(r.TypeUrl, r.Body)
	if found := (&fsmpb.Resource{References: again, Binds: binds}); err != nil || !slices.Equal(references(found), references(r)) || !slices.Equal(binds, r.Binds) {
		t.Errorf("of the stored %s come %v, %v", raw, found, err)
	}
	return r
}

func references(r *fsmpb.Resource) []string {
	var out []string
	for _, ref := range r.References {
		out = append(out, fmt.Sprintf("%s %s %s", ref.Kind, ref.Name, ref.Path))
	}
	return out
}

func TestGoodResources(t *testing.T) {
	for name, tc := range map[string]struct {
		raw, typeURL, name string
		references, binds  []string
	}{
		"listener by RDS": {
			raw: listener(rds, ""), typeURL: fsm.TypeListener, name: "l", binds: []string{"tcp/0.0.0.0:80"},
			references: []string{"ROUTE r filter_chains[0].filters[0].typed_config.rds.route_config_name"},
		},
		"listener with routes": {
			raw:     listener(routes(`"route": {"weighted_clusters": {"clusters": [{"name": "a", "weight": 1}, {"name": "b", "weight": 1}]}, "request_mirror_policies": [{"cluster": "m"}]}`), ""),
			typeURL: fsm.TypeListener, name: "l", binds: []string{"tcp/0.0.0.0:80"},
			references: []string{
				"CLUSTER m filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].routes[0].route.request_mirror_policies[0].cluster",
				"CLUSTER a filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].routes[0].route.weighted_clusters.clusters[0].name",
				"CLUSTER b filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].routes[0].route.weighted_clusters.clusters[1].name",
			},
		},
		"listener with lua, an unknown filter and a TypedStruct": {
			raw: listener(rds, `{"name": "lua", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua", "default_source_code": {"inline_string": "x"}}},
				{"name": "own", "typed_config": {"@type": "type.googleapis.com/acme.Filter", "value": "CgF4"}},
				{"name": "struct", "typed_config": {"@type": "type.googleapis.com/xds.type.v3.TypedStruct", "type_url": "acme/Other", "value": {"any": ["thing", 1]}}},
				{"name": "golang", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.golang.v3alpha.Config", "library_id": "a", "library_path": "b", "plugin_name": "c"}},`),
			typeURL: fsm.TypeListener, name: "l", binds: []string{"tcp/0.0.0.0:80"},
			references: []string{"ROUTE r filter_chains[0].filters[0].typed_config.rds.route_config_name"},
		},
		"listeners that bind elsewhere": {
			raw: `{"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": "l",
				"address": {"pipe": {"path": "/tmp/x"}}, "additional_addresses": [
				{"address": {"socket_address": {"protocol": "UDP", "address": "::ffff:10.0.0.1", "port_value": 53}}},
				{"address": {"socket_address": {"address": "::1", "port_value": 0}}}]}`,
			typeURL: fsm.TypeListener, name: "l", binds: []string{"udp/10.0.0.1:53", "unix//tmp/x"},
		},
		"listener that does not bind": {
			raw: `{"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": "l", "bind_to_port": false,
				"address": {"socket_address": {"address": "0.0.0.0", "port_value": 80}}}`,
			typeURL: fsm.TypeListener, name: "l",
		},
		"EDS cluster": {
			raw: cluster(`, "type": "EDS", "eds_cluster_config": {"eds_config": {"ads": {}}}`), typeURL: fsm.TypeCluster, name: "web",
			references: []string{"ENDPOINTS web name"},
		},
		"EDS cluster of a service, with TLS": {
			raw: cluster(`, "type": "EDS", "eds_cluster_config": {"service_name": "s", "eds_config": {"ads": {}}}, "connectTimeout": "0.5s",
				"transport_socket": {"name": "tls", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
				"common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": "cert", "sds_config": {"ads": {}}}],
				"tls_certificates": [{"certificate_chain": {"filename": "/c"}, "private_key": {"filename": "/k"}}]}}}`),
			typeURL: fsm.TypeCluster, name: "web",
			references: []string{
				"ENDPOINTS s eds_cluster_config.service_name",
				"SECRET cert transport_socket.typed_config.common_tls_context.tls_certificate_sds_secret_configs[0].name",
			},
		},
		"Resource form": {
			raw:     `{"@type": "type.googleapis.com/envoy.service.discovery.v3.Resource", "name": "web", "ttl": "5s", "aliases": ["w"], "resource": ` + cluster("") + `}`,
			typeURL: fsm.TypeCluster, name: "web",
		},
		"virtual host": {
			raw:     `{"@type": "type.googleapis.com/envoy.config.route.v3.VirtualHost", "route_config": "r", "name": "h", "domains": ["a.com", "*"]}`,
			typeURL: fsm.TypeVirtualHost, name: "r/h",
		},
		"virtual host in the Resource form": {
			raw:     `{"name": "r/h", "resource": {"@type": "type.googleapis.com/envoy.config.route.v3.VirtualHost", "name": "h", "domains": ["a.com", "*"]}}`,
			typeURL: fsm.TypeVirtualHost, name: "r/h",
		},
		"extension": {
			raw:     `{"@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig", "name": "e", "typed_config": {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "3s"}}`,
			typeURL: fsm.TypeExtension, name: "e",
		},
		"runtime": {
			raw:     `{"@type": "type.googleapis.com/envoy.service.runtime.v3.Runtime", "name": "rt", "layer": {"a": {"b": null}}}`,
			typeURL: fsm.TypeRuntime, name: "rt",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := decode(t, tc.raw)
			if r.TypeUrl != tc.typeURL || r.Name != tc.name {
				t.Errorf("got %s %q", r.TypeUrl, r.Name)
			}
			if got := references(r); !slices.Equal(got, tc.references) {
				t.Errorf("references %q", got)
			}
			if !slices.Equal(r.Binds, tc.binds) {
				t.Errorf("binds %q", r.Binds)
			}
			if strings.Contains(name, "virtual host") && !slices.Equal(r.Aliases, []string{"r/a.com", "r/*"}) {
				t.Errorf("aliases %q", r.Aliases)
			}
			roundTrip(t, r)
		})
	}
	if r := decode(t, `{"name": "web", "ttl": "5s", "aliases": ["w"], "resource": `+cluster("")+`}`); r.TtlMs != 5000 || r.Aliases[0] != "w" {
		t.Errorf("got %v", r)
	}
}

func TestBadResources(t *testing.T) {
	for name, tc := range map[string]struct {
		raw  string
		want []string // "code path"
	}{
		"broken JSON":        {`{"a":`, []string{"malformed_json upsert[0]"}},
		"no object":          {`[1]`, []string{"invalid_resource upsert[0]"}},
		"no type":            {`{"name": "x"}`, []string{"unknown_type upsert[0].@type"}},
		"a type of no type":  {`{"@type": 5}`, []string{"unknown_type upsert[0].@type"}},
		"unknown type":       {`{"@type": "type.googleapis.com/acme.Thing", "value": "eA=="}`, []string{"unknown_type upsert[0].@type"}},
		"endpoints":          {`{"@type": "` + fsm.TypeEndpoints + `", "cluster_name": "x"}`, []string{"not_staged upsert[0]"}},
		"secret":             {`{"@type": "` + fsm.TypeSecret + `", "name": "x"}`, []string{"not_staged upsert[0]"}},
		"no name":            {`{"@type": "` + fsm.TypeRuntime + `", "name": "", "layer": {}}`, []string{"invalid_resource upsert[0].name"}},
		"a name that is not": {strings.Replace(cluster(""), "web", `w\u0007b`, 1), []string{"invalid_name upsert[0].name"}},
		"a long name":        {strings.Replace(cluster(""), "web", strings.Repeat("w", 1025), 1), []string{"invalid_name upsert[0].name"}},
		"two names":          {`{"name": "x", "resource": ` + cluster("") + `}`, []string{"invalid_name upsert[0].name"}},
		"virtual host of nothing": {
			`{"@type": "` + fsm.TypeVirtualHost + `", "name": "h", "domains": ["*"]}`,
			[]string{"invalid_resource upsert[0].route_config"},
		},
		"virtual host without its route configuration": {
			`{"name": "h", "resource": {"@type": "` + fsm.TypeVirtualHost + `", "name": "h", "domains": ["*"]}}`,
			[]string{"invalid_name upsert[0].name"},
		},
		"mistakes of the Resource form": {
			`{"@type": "type.googleapis.com/envoy.service.discovery.v3.Resource", "name": 5, "ttl": "x", "aliases": [1], "more": 1}`,
			[]string{
				"invalid_resource upsert[0].aliases", "invalid_resource upsert[0].name", "invalid_resource upsert[0].resource",
				"invalid_resource upsert[0].ttl",
				"unknown_field upsert[0].more",
			},
		},
		"Resource form of nothing": {`{"@type": "type.googleapis.com/envoy.service.discovery.v3.Resource", "name": "x"}`, []string{"invalid_resource upsert[0].resource"}},
		"Resource form of no type": {`{"name": "x", "resource": {}}`, []string{"unknown_type upsert[0].resource.@type"}},
		"several at once, deep inside": {
			listener(routes(`"route": {"clustr": "x", "timeout": "soon"}`), `{"name": "x", "typed_config": {"@type": "type.googleapis.com/acme.Filter", "a": 1}},{"nam": "y"},`),
			[]string{
				"invalid_resource upsert[0].filter_chains[0].filters[0].typed_config.http_filters[1].name",
				"invalid_resource upsert[0].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].routes[0].route.cluster_specifier",
				"invalid_resource upsert[0].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].routes[0].route.timeout",
				"unknown_field upsert[0].filter_chains[0].filters[0].typed_config.http_filters[1].nam",
				"unknown_field upsert[0].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].routes[0].route.clustr",
				"unknown_type upsert[0].filter_chains[0].filters[0].typed_config.http_filters[0].typed_config.@type",
			},
		},
		"wrong kinds": {
			cluster(`, "type": "EDSS", "connect_timeout": 5, "lb_policy": 99999999999, "per_connection_buffer_limit_bytes": -1, "health_checks": {}, "load_assignment": [], "metadata": {"filter_metadata": []}`),
			[]string{
				"invalid_resource upsert[0].connect_timeout", "invalid_resource upsert[0].health_checks", "invalid_resource upsert[0].lb_policy",
				"invalid_resource upsert[0].load_assignment", "invalid_resource upsert[0].metadata.filter_metadata",
				"invalid_resource upsert[0].per_connection_buffer_limit_bytes", "invalid_resource upsert[0].type",
			},
		},
		"two of one": {
			cluster(`, "type": "EDS", "cluster_type": {"name": "x"}`),
			[]string{"invalid_resource upsert[0].type"},
		},
		"rules": {
			cluster(`, "connect_timeout": "-1s", "health_checks": [{"timeout": "1s", "interval": "1s", "unhealthy_threshold": 1, "healthy_threshold": 1}]`),
			[]string{"invalid_resource upsert[0].connect_timeout", "invalid_resource upsert[0].health_checks[0].health_checker"},
		},
		"a rule inside an Any": {
			listener(routes(`"route": {"cluster": "x", "request_mirror_policies": [{"cluster": "y", "cluster_header": "\u0000"}]}`), ""),
			[]string{"invalid_resource upsert[0].filter_chains[0].filters[0].typed_config.route_config.virtual_hosts[0].routes[0].route.request_mirror_policies[0].cluster_header"},
		},
		"Any without type": {
			`{"@type": "` + fsm.TypeExtension + `", "name": "e", "typed_config": {"x": 1}}`,
			[]string{"unknown_type upsert[0].typed_config.@type"},
		},
		"Any that is none":       {`{"@type": "` + fsm.TypeExtension + `", "name": "e", "typed_config": 3}`, []string{"invalid_resource upsert[0].typed_config"}},
		"bytes that are none":    {`{"@type": "` + fsm.TypeExtension + `", "name": "e", "typed_config": {"@type": "a/b.C", "value": "??"}}`, []string{"invalid_resource upsert[0].typed_config.value"}},
		"a duration in no value": {`{"@type": "` + fsm.TypeExtension + `", "name": "e", "typed_config": {"@type": "type.googleapis.com/google.protobuf.Duration", "seconds": 3}}`, []string{"invalid_resource upsert[0].typed_config"}},
		"private key": {
			cluster(`, "transport_socket": {"name": "tls", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
				"common_tls_context": {"tls_certificates": [{"private_key": {"inline_string": "secret"}, "password": {"inline_string": "secret"}}]}}}`),
			[]string{
				"inline_secret upsert[0].transport_socket.typed_config.common_tls_context.tls_certificates[0].password",
				"inline_secret upsert[0].transport_socket.typed_config.common_tls_context.tls_certificates[0].private_key",
			},
		},
		"private key where none belongs": {
			listener(rds, `{"name": "lua", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua", "default_source_code": {"inline_string": "-----BEGIN PRIVATE KEY-----"}}},`),
			[]string{"inline_secret upsert[0].filter_chains[0].filters[0].typed_config.http_filters[0].typed_config.default_source_code"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, problems := resource.New().Decode("upsert[0]", []byte(tc.raw))
			var got []string
			for _, p := range problems {
				got = append(got, string(p.Code)+" "+p.Path)
				if p.Detail == "" {
					t.Errorf("%s: no detail", p.Path)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, tc.want) || r != nil {
				t.Errorf("got  %q\nwant %q\n%+v", got, tc.want, problems)
			}
		})
	}
}

func TestEndpoints(t *testing.T) {
	d := resource.New()
	body, hash, problems := d.DecodeEndpoints("web", []byte(`{"endpoints": []}`))
	if len(problems) > 0 || string(hash) != string(fsm.ResourceHash(body, nil, 0)) {
		t.Fatalf("%+v", problems)
	}
	if raw, err := d.JSON(fsm.TypeEndpoints, body); err != nil || string(raw) != `{"@type":"`+fsm.TypeEndpoints+`","cluster_name":"web"}` {
		t.Fatalf("%s %v", raw, err)
	}
	for raw, want := range map[string]wire.FieldError{
		`{"cluster_name": "other"}`:          {Path: "cluster_name", Code: wire.CodeInvalid},
		`{"clusterName": "other"}`:           {Path: "cluster_name", Code: wire.CodeInvalid},
		`{"@type": "x"}`:                     {Path: "@type", Code: wire.CodeUnknownType},
		`{"endpoint": []}`:                   {Path: "endpoint", Code: wire.CodeUnknownField},
		`nonsense`:                           {Path: "", Code: wire.CodeMalformedJSON},
		`{"endpoints": [{"priority": 200}]}`: {Path: "endpoints[0].priority", Code: wire.CodeInvalidResource},
	} {
		_, _, problems := d.DecodeEndpoints("web", []byte(raw))
		if len(problems) != 1 || problems[0].Path != want.Path || problems[0].Code != want.Code {
			t.Errorf("%s: %+v", raw, problems)
		}
	}
}

func TestUnknownBytesRender(t *testing.T) {
	raw, err := resource.New().JSON("type.googleapis.com/acme.Thing", []byte("x"))
	if err != nil || string(raw) != `{"@type":"type.googleapis.com/acme.Thing","value":"eA=="}` {
		t.Fatalf("%s %v", raw, err)
	}
	if _, err := resource.New().JSON(fsm.TypeCluster, []byte("\xff\xff")); err == nil {
		t.Fatal("damaged bytes rendered")
	}
}
