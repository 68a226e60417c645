package api_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/org/envoy-control-plane/api"
	"github.com/org/envoy-control-plane/api/resource"
	"github.com/org/envoy-control-plane/api/wire"
)

// withEnvoy checks resources by Envoy's rules, as a node does.
func withEnvoy(_ *rig, _ *api.Config, d *api.Deps) { d.Resources = resource.New() }

const (
	web = `{"@type":"type.googleapis.com/envoy.config.cluster.v3.Cluster","name":"web","type":"EDS",
		"eds_cluster_config":{"eds_config":{"ads":{},"resource_api_version":"V3"}}}`
	hcm = `{"@type":"type.googleapis.com/envoy.config.listener.v3.Listener","name":"in",
		"address":{"socket_address":{"address":"0.0.0.0","port_value":10000}},
		"filter_chains":[{"filters":[{"name":"hcm","typed_config":{
			"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
			"stat_prefix":"in","route_config":{"name":"local","virtual_hosts":[{"name":"all","domains":["*"],
				"routes":[{"match":{"prefix":"/"},"route":{"cluster":"CLUSTER"}}]}]},
			"http_filters":[{"name":"router","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]
		}}]}]}`
)

func upserts(items ...string) string { return `{"upsert":[` + strings.Join(items, ",") + `]}` }

// TestRealResources walks a real configuration through: checked, stored,
// shown again, compared.
func TestRealResources(t *testing.T) {
	r := newRig(t, withEnvoy).withFleet()
	made := decoded[wire.Changed](r.post(changePath, upserts(web, strings.Replace(hcm, "CLUSTER", "nowhere", 1))), 201)
	if len(made.Warnings) != 2 {
		t.Errorf("warnings for a missing cluster and missing endpoints: %+v", made.Warnings)
	}
	shown := decoded[wire.Resource](r.get(fleetPath+"/resources/listener/in"), 200)
	var message map[string]any
	if err := json.Unmarshal(shown.Resource, &message); err != nil || message["name"] != "in" || message["@type"] == nil {
		t.Errorf("shown: %s", shown.Resource)
	}
	same := decoded[wire.Changed](r.post(changePath, upserts(string(shown.Resource))), 200)
	if len(same.Changed) != 0 {
		t.Errorf("what is shown is another message: %+v", same)
	}
	yaml := `
upsert:
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: web
  type: STATIC
  connect_timeout: 1s
`
	next := decoded[wire.Changed](r.post(changePath, yaml, "Content-Type", "application/yaml"), 201)
	diff := decoded[wire.Diff](r.get(fleetPath+"/revisions/2/diff?content=true"), 200)
	if next.Revision != 2 || len(diff.Changed) != 1 || !strings.Contains(string(diff.Changed[0].After), `"1s"`) {
		t.Errorf("diff: %+v", diff)
	}
	r.put("/api/v1/tenants/default/endpoints/web", `{"endpoints":[{"lb_endpoints":[{"endpoint":{"address":
		{"socket_address":{"address":"127.0.0.1","port_value":8080}}}}]}]}`).is(201)
	got := decoded[wire.Endpoints](r.get("/api/v1/tenants/default/endpoints/web"), 200)
	if !strings.Contains(string(got.Resource), "127.0.0.1") {
		t.Errorf("endpoints: %s", got.Resource)
	}
}

// TestRealMistakes: bad input is refused with a stable code and the path to
// it, and nothing is stored.
func TestRealMistakes(t *testing.T) {
	r := newRig(t, withEnvoy).withFleet()
	before := r.ledger.state().Index()
	const cl = `{"@type":"type.googleapis.com/envoy.config.cluster.v3.Cluster","name":"a"`
	for _, c := range []struct {
		name, body string
		code       wire.Code
		path       string
	}{
		{"unknown field", upserts(cl + `,"nonsense":1}`), wire.CodeUnknownField, "upsert[0].nonsense"},
		{"unknown type", upserts(`{"@type":"type.googleapis.com/envoy.Nonsense","name":"a"}`), wire.CodeUnknownType, "upsert[0].@type"},
		{"rule deep inside", upserts(strings.Replace(hcm, `"stat_prefix":"in",`, "", 1)), wire.CodeInvalidResource, ""},
		{"endpoints", upserts(`{"@type":"type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment","cluster_name":"a"}`), wire.CodeNotStaged, ""},
		{"inline key", upserts(cl + `,"transport_socket":{"name":"tls","typed_config":{
			"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
			"common_tls_context":{"tls_certificates":[{"private_key":{"inline_string":"KEY"}}]}}}}`), wire.CodeInlineSecret, ""},
		{"twice", upserts(cl+"}", cl+"}"), wire.CodeDuplicateName, "upsert[1]"},
		{"no message", upserts(`3`), wire.CodeInvalidResource, "upsert[0]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := r.post(changePath, c.body).refused(c.code)
			if len(p.Errors) == 0 || c.path != "" && p.Errors[0].Path != c.path {
				t.Errorf("mistakes: %+v", p.Errors)
			}
			for _, e := range p.Errors {
				if !strings.HasPrefix(e.Path, "upsert[") {
					t.Errorf("path %q", e.Path)
				}
			}
		})
	}
	if after := r.ledger.state().Index(); after != before {
		t.Errorf("bad input moved the log from %d to %d", before, after)
	}
	taken := strings.Replace(strings.Replace(hcm, `"name":"in"`, `"name":"too"`, 1), "CLUSTER", "web", 1)
	r.post(changePath, upserts(strings.Replace(hcm, "CLUSTER", "web", 1), taken)).refused(wire.CodeAddressConflict)
	r.put("/api/v1/tenants/default/endpoints/web", `{"cluster_name":"other"}`).refused(wire.CodeInvalid, "cluster_name")
	r.put("/api/v1/tenants/default/endpoints/web", `{"nonsense":1}`).refused(wire.CodeUnknownField, "nonsense")
}
