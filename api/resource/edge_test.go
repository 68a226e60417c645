package resource_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/org/envoy-control-plane/api/resource"
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
)

func extension(config string) string {
	return fmt.Sprintf(`{"@type": %q, "name": "e", "typed_config": %s}`, fsm.TypeExtension, config)
}

// mistakes decodes what is bad and returns "code path" of each problem.
func mistakes(t *testing.T, raw string) []string {
	t.Helper()
	r, problems := resource.New().Decode("u[0]", []byte(raw))
	if r != nil || len(problems) == 0 {
		t.Fatalf("taken: %s", raw)
	}
	var out []string
	for _, p := range problems {
		out = append(out, string(p.Code)+" "+p.Path)
	}
	slices.Sort(out)
	return out
}

// TestTypeInAnyNotation: the prefix of a type URL, or none, changes nothing.
func TestTypeInAnyNotation(t *testing.T) {
	want := decode(t, cluster(""))
	for _, prefix := range []string{"", "/", "acme.com/x/"} {
		at := prefix + "envoy."
		got := decode(t, strings.Replace(cluster(""), fsm.TypePrefix+"envoy.", at, 1))
		if got.TypeUrl != want.TypeUrl || string(got.Hash) != string(want.Hash) {
			t.Errorf("%q: %s", prefix, got.TypeUrl)
		}
		for _, url := range []string{fsm.TypeSecret, fsm.TypeEndpoints} {
			url = strings.Replace(url, fsm.TypePrefix, prefix, 1)
			item := fmt.Sprintf(`{"name": "x", "resource": {"@type": %q}}`, url)
			if got := mistakes(t, item); !slices.Equal(got, []string{"not_staged u[0]"}) {
				t.Errorf("%s: %q", url, got)
			}
		}
	}
}

func TestEdges(t *testing.T) {
	const vh = `{"@type": "type.googleapis.com/envoy.config.route.v3.VirtualHost", "name": "h", "domains": ["*"]}`
	nested := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	for name, tc := range map[string]struct {
		raw  string
		want []string // nil: it is taken
	}{
		"a key twice":             {cluster(`, "connect_timeout": "1s", "connect_timeout": "2s"`), []string{"invalid_resource u[0].connect_timeout"}},
		"a key twice, deep":       {cluster(`, "metadata": {"filter_metadata": {"a.b": {"c": [{"d": 1, "d": 1}]}}}`), []string{`invalid_resource u[0].metadata.filter_metadata["a.b"].c[0].d`}},
		"a field in two ways":     {cluster(`, "connect_timeout": "1s", "connectTimeout": "2s"`), []string{"invalid_resource u[0].connect_timeout"}},
		"more behind it":          {cluster("") + " more", []string{"malformed_json u[0]"}},
		"not UTF-8":               {cluster(", \"alt_stat_name\": \"\xff\""), []string{"malformed_json u[0]"}},
		"deep enough":             {fmt.Sprintf(`{"@type": %q, "name": "r", "layer": %s}`, fsm.TypeRuntime, nested(90)), nil},
		"too deep":                {fmt.Sprintf(`{"@type": %q, "name": "r", "layer": %s}`, fsm.TypeRuntime, nested(100)), []string{"invalid_resource u[0]"}},
		"brackets in a text":      {fmt.Sprintf(`{"@type": %q, "name": "r", "layer": {"a": "\"%s"}}`, fsm.TypeRuntime, strings.Repeat("[", 200)), nil},
		"no resource":             {`{"name": "x", "resource": {"@type": "type.googleapis.com/google.protobuf.Struct", "a": 1}}`, []string{"unknown_type u[0].resource.@type"}},
		"Empty":                   {extension(`{"@type": "type.googleapis.com/google.protobuf.Empty", "value": {}}`), nil},
		"Empty without value":     {extension(`{"@type": "type.googleapis.com/google.protobuf.Empty"}`), nil},
		"Empty that is not":       {extension(`{"@type": "type.googleapis.com/google.protobuf.Empty", "value": {"a": 1}}`), []string{"unknown_field u[0].typed_config.value"}},
		"an empty type":           {extension(`{"@type": "", "value": ""}`), []string{"unknown_type u[0].typed_config.@type"}},
		"a type without slash":    {extension(`{"@type": "envoy.config.cluster.v3.Cluster", "name": "x"}`), []string{"unknown_type u[0].typed_config.@type"}},
		"an Any in an Any":        {extension(`{"@type": "type.googleapis.com/google.protobuf.Any", "value": {"@type": "` + fsm.TypeCluster + `", "connect_timeout": "-1s", "name": "x"}}`), []string{"invalid_resource u[0].typed_config.value.connect_timeout"}},
		"a number that is none":   {cluster(`, "per_connection_buffer_limit_bytes": "0x10"`), []string{"invalid_resource u[0].per_connection_buffer_limit_bytes"}},
		"a number beyond all":     {fmt.Sprintf(`{"@type": %q, "name": "r", "layer": {"a": {"b c": 1e999}}}`, fsm.TypeRuntime), []string{`invalid_resource u[0].layer.a["b c"]`}},
		"a null in a list":        {cluster(`, "health_checks": [null]`), []string{"invalid_resource u[0].health_checks[0]"}},
		"nulls":                   {`{"name": "web", "ttl": null, "aliases": null, "resource": ` + cluster(`, "type": null`) + `}`, nil},
		"ttl in Go's notation":    {`{"name": "web", "ttl": "1ms", "resource": ` + cluster("") + `}`, []string{"invalid_resource u[0].ttl"}},
		"ttl that would vanish":   {`{"name": "web", "ttl": "0.0001s", "resource": ` + cluster("") + `}`, []string{"invalid_resource u[0].ttl"}},
		"negative ttl":            {`{"name": "web", "ttl": "-1s", "resource": ` + cluster("") + `}`, []string{"invalid_resource u[0].ttl"}},
		"an alias that is none":   {`{"name": "web", "aliases": ["a", ""], "resource": ` + cluster("") + `}`, []string{"invalid_name u[0].aliases[1]"}},
		"only the form has it":    {`{"name": "l", "resource": {"@type": "` + fsm.TypeListener + `", "address": {"socket_address": {"address": "::1", "port_value": 1}}}}`, []string{"invalid_name u[0].name"}},
		"neither has it":          {`{"resource": {"@type": "` + fsm.TypeListener + `", "address": {"socket_address": {"address": "::1", "port_value": 1}}}}`, []string{"invalid_name u[0].resource.name"}},
		"a type without names":    {`{"resource": {"@type": "type.googleapis.com/envoy.config.core.v3.Node"}}`, []string{"invalid_name u[0].name"}},
		"another host":            {`{"name": "r/other", "resource": ` + vh + `}`, []string{"invalid_name u[0].name"}},
		"a strange unknown key":   {cluster(`, "a.b": 1`), []string{`unknown_field u[0]["a.b"]`}},
		"a key in a map of Anys":  {cluster(`, "typed_extension_protocol_options": {"a[x]": {"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"}}`), []string{`invalid_resource u[0].typed_extension_protocol_options["a[x]"].upstream_protocol_options`}},
		"rules beside the walk's": {cluster(`, "connect_timeout": "-1s", "nonsense": 1, "health_checks": [{"timeout": "soon", "interval": "1s", "healthy_threshold": 1}]`), []string{"invalid_resource u[0].connect_timeout", "invalid_resource u[0].health_checks[0].health_checker", "invalid_resource u[0].health_checks[0].timeout", "invalid_resource u[0].health_checks[0].unhealthy_threshold", "unknown_field u[0].nonsense"}},
		"one mistake, told once":  {listener(`"rds": 5`, ""), []string{"invalid_resource u[0].filter_chains[0].filters[0].typed_config.rds"}},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.want == nil {
				roundTrip(t, decode(t, tc.raw))
			} else if got := mistakes(t, tc.raw); !slices.Equal(got, tc.want) {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}

// TestManyMistakes: an answer is bounded, and says that there were more.
func TestManyMistakes(t *testing.T) {
	var raw strings.Builder
	for i := range 150 {
		fmt.Fprintf(&raw, `, "x%d%s": 1`, i, strings.Repeat("y", 10_000))
	}
	_, problems := resource.New().Decode("", []byte(cluster(raw.String())))
	if len(problems) != 100 || !strings.Contains(problems[99].Detail, "at least 50 more") {
		t.Fatalf("%d problems, the last %+v", len(problems), problems[len(problems)-1])
	}
	for _, p := range problems {
		if p.Code != wire.CodeUnknownField || len(p.Path)+len(p.Detail) > 500 {
			t.Fatalf("%+v", p)
		}
	}
}

func TestEndpointsEdges(t *testing.T) {
	d := resource.New()
	for raw, want := range map[string]string{
		`{"@type": "envoy.config.endpoint.v3.ClusterLoadAssignment", "cluster_name": null}`: "",
		`{"clusterName": "web"}`:                        "",
		`{"cluster_name": 5}`:                           "invalid_resource cluster_name",
		`{"cluster_name": "web", "clusterName": "web"}`: "invalid_resource cluster_name",
		`{"endpoints": [], "endpoints": []}`:            "invalid_resource endpoints",
		`{"policy": {}} {}`:                             "malformed_json ",
		`{"@type": 5}`:                                  "unknown_type @type",
	} {
		body, _, problems := d.DecodeEndpoints("web", []byte(raw))
		got := ""
		for _, p := range problems {
			got += string(p.Code) + " " + p.Path
		}
		if got != want || want == "" && string(body) != "\n\x03web" {
			t.Errorf("%s: %q, %q", raw, got, body)
		}
	}
}
