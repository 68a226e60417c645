package resource_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/org/envoy-control-plane/fsm"
)

func TestReferences(t *testing.T) {
	const from = `"config_source": {"ads": {}}`
	network := func(name, fields string) string {
		return extension(fmt.Sprintf(`{"@type": "type.googleapis.com/envoy.extensions.%s", %s}`, name, fields))
	}
	for name, tc := range map[string]struct {
		raw  string
		want []string
	}{
		"route by header or plugin": {listener(routes(`"route": {"cluster_header": "x"}`), ""), nil},
		"weights": {
			network("filters.network.tcp_proxy.v3.TcpProxy", `"stat_prefix": "x", "weighted_clusters": {"clusters": [{"name": "a", "weight": 1}, {"name": "b", "weight": 1}]}`),
			[]string{"CLUSTER a typed_config.weighted_clusters.clusters[0].name", "CLUSTER b typed_config.weighted_clusters.clusters[1].name"},
		},
		"aggregate": {
			cluster(`, "cluster_type": {"name": "envoy.clusters.aggregate", "typed_config": {
				"@type": "type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig", "clusters": ["a", "b"]}}`),
			[]string{"CLUSTER a cluster_type.typed_config.clusters[0]", "CLUSTER b cluster_type.typed_config.clusters[1]"},
		},
		"a filter's own service": {
			network("filters.http.ext_authz.v3.ExtAuthz", `"grpc_service": {"envoy_grpc": {"cluster_name": "authz"}}`),
			[]string{"CLUSTER authz typed_config.grpc_service.envoy_grpc.cluster_name"},
		},
		"filters from elsewhere": {
			listener(rds, `{"name": "late", "config_discovery": {`+from+`, "type_urls": ["a/b.C"]}},
				{"name": "file", "config_discovery": {"config_source": {"path_config_source": {"path": "/x"}}, "type_urls": ["a/b.C"]}},`),
			[]string{
				"EXTENSION late filter_chains[0].filters[0].typed_config.http_filters[0].config_discovery",
				"ROUTE r filter_chains[0].filters[0].typed_config.rds.route_config_name",
			},
		},
		"routes from a file": {
			listener(`"rds": {"route_config_name": "r", "config_source": {"path_config_source": {"path": "/x"}}}`, ""), nil,
		},
		"endpoints by a server of the bootstrap": {
			cluster(`, "type": "EDS", "eds_cluster_config": {"eds_config": {"api_config_source": {"api_type": "GRPC",
				"grpc_services": [{"envoy_grpc": {"cluster_name": "xds_cluster"}}]}}}`),
			[]string{"ENDPOINTS web name"},
		},
		"endpoints from a file": {
			cluster(`, "type": "EDS", "eds_cluster_config": {"eds_config": {"path_config_source": {"path": "/x"}}}`), nil,
		},
		"scoped route": {
			fmt.Sprintf(`{"@type": %q, "name": "s", "route_configuration_name": "r", "key": {"fragments": [{"string_key": "k"}]}}`, fsm.TypeScopedRoute),
			[]string{"ROUTE r route_configuration_name"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := references(decode(t, tc.raw)); !slices.Equal(got, tc.want) {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}

func TestBinds(t *testing.T) {
	for fields, want := range map[string][]string{
		`"address": {"socket_address": {"address": "0:0:0:0:0:0:0:1", "port_value": 80}}`:                                   {"tcp/[::1]:80"},
		`"address": {"socket_address": {"address": "::1", "port_value": 80, "network_namespace_filepath": "/ns"}}`:          {"tcp/[::1]:80@/ns"},
		`"address": {"socket_address": {"address": "1.1.1.1", "port_value": 80}}, "deprecated_v1": {"bind_to_port": false}`: nil,
		`"address": {"socket_address": {"address": "1.1.1.1", "port_value": 80}}, "bind_to_port": true`:                     {"tcp/1.1.1.1:80"},
		`"internal_listener": {}`: nil,
	} {
		r := decode(t, fmt.Sprintf(`{"@type": %q, "name": "l", %s}`, fsm.TypeListener, fields))
		if !slices.Equal(r.Binds, want) {
			t.Errorf("%s: %q", fields, r.Binds)
		}
	}
}
