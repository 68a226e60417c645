package resource

import (
	"cmp"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// references returns the names that a message needs others to answer for,
// ordered by path.
func (d *Decoder) references(m protoreflect.Message) []*fsmpb.Reference {
	var out []*fsmpb.Reference
	d.types.visit(node{m: m, whole: true}, func(n node) {
		referencesOf(n.m, func(kind fsmpb.Reference_Kind, name, field string) {
			// The cluster of a configuration source is in the bootstrap.
			if name == "" || kind == fsmpb.Reference_CLUSTER && strings.Contains(n.path, "api_config_source") {
				return
			}
			out = append(out, &fsmpb.Reference{Kind: kind, Name: name, Path: join(n.path, field)})
		})
	})
	slices.SortStableFunc(out, func(a, b *fsmpb.Reference) int { return cmp.Compare(a.GetPath(), b.GetPath()) })
	return out
}

// clusterFields are the fields that name a cluster. A cluster that a request's
// header or a plugin chooses is not known.
var clusterFields = map[protoreflect.FullName]protoreflect.Name{
	"envoy.config.core.v3.GrpcService.EnvoyGrpc":                                                        "cluster_name",
	"envoy.config.core.v3.HttpUri":                                                                      "cluster",
	"envoy.config.route.v3.RouteAction":                                                                 "cluster",
	"envoy.config.route.v3.RouteAction.RequestMirrorPolicy":                                             "cluster",
	"envoy.config.route.v3.WeightedCluster.ClusterWeight":                                               "name",
	"envoy.config.trace.v3.DatadogConfig":                                                               "collector_cluster",
	"envoy.config.trace.v3.LightstepConfig":                                                             "collector_cluster",
	"envoy.config.trace.v3.ZipkinConfig":                                                                "collector_cluster",
	"envoy.extensions.access_loggers.fluentd.v3.FluentdAccessLogConfig":                                 "cluster",
	"envoy.extensions.clusters.aggregate.v3.ClusterConfig":                                              "clusters",
	"envoy.extensions.filters.network.dubbo_proxy.v3.RouteAction":                                       "cluster",
	"envoy.extensions.filters.network.generic_proxy.action.v3.RouteAction":                              "cluster",
	"envoy.extensions.filters.network.redis_proxy.v3.RedisProxy.PrefixRoutes.Route":                     "cluster",
	"envoy.extensions.filters.network.redis_proxy.v3.RedisProxy.PrefixRoutes.Route.ReadCommandPolicy":   "cluster",
	"envoy.extensions.filters.network.redis_proxy.v3.RedisProxy.PrefixRoutes.Route.RequestMirrorPolicy": "cluster",
	"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy":                                            "cluster",
	"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight":              "name",
	"envoy.extensions.filters.network.thrift_proxy.v3.RouteAction":                                      "cluster",
	"envoy.extensions.filters.network.thrift_proxy.v3.RouteAction.RequestMirrorPolicy":                  "cluster",
	"envoy.extensions.filters.network.thrift_proxy.v3.WeightedCluster.ClusterWeight":                    "name",
	"envoy.extensions.filters.udp.udp_proxy.v3.Route":                                                   "cluster",
	"envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig":                                          "cluster",
}

// referencesOf returns those of one message, without what is below it.
func referencesOf(m protoreflect.Message, add func(kind fsmpb.Reference_Kind, name, field string)) {
	if name, ok := clusterFields[m.Descriptor().FullName()]; ok {
		clusters(m, m.Descriptor().Fields().ByName(name), add)
	}
	if f := m.Descriptor().Fields().ByName("config_discovery"); f != nil && m.Has(f) {
		source, ok := m.Get(f).Message().Interface().(*corev3.ExtensionConfigSource)
		if name := m.Descriptor().Fields().ByName("name"); ok && name != nil && fromServer(source.GetConfigSource()) {
			add(fsmpb.Reference_EXTENSION, m.Get(name).String(), "config_discovery")
		}
	}
	switch m := m.Interface().(type) {
	case *routev3.ScopedRouteConfiguration:
		add(fsmpb.Reference_ROUTE, m.GetRouteConfigurationName(), "route_configuration_name")
	case *hcmv3.Rds:
		if fromServer(m.GetConfigSource()) {
			add(fsmpb.Reference_ROUTE, m.GetRouteConfigName(), "route_config_name")
		}
	case *tlsv3.SdsSecretConfig:
		if m.GetSdsConfig() != nil && fromServer(m.GetSdsConfig()) {
			add(fsmpb.Reference_SECRET, m.GetName(), "name")
		}
	case *clusterv3.Cluster:
		endpoints(m, add)
	}
}

func clusters(m protoreflect.Message, f protoreflect.FieldDescriptor, add func(kind fsmpb.Reference_Kind, name, field string)) {
	if !f.IsList() {
		add(fsmpb.Reference_CLUSTER, m.Get(f).String(), f.TextName())
		return
	}
	for i := range m.Get(f).List().Len() {
		add(fsmpb.Reference_CLUSTER, m.Get(f).List().Get(i).String(), indexed(f.TextName(), i))
	}
}

func endpoints(c *clusterv3.Cluster, add func(kind fsmpb.Reference_Kind, name, field string)) {
	if c.GetType() != clusterv3.Cluster_EDS || !fromServer(c.GetEdsClusterConfig().GetEdsConfig()) {
		return
	}
	if service := c.GetEdsClusterConfig().GetServiceName(); service != "" {
		add(fsmpb.Reference_ENDPOINTS, service, "eds_cluster_config.service_name")
		return
	}
	add(fsmpb.Reference_ENDPOINTS, c.GetName(), "name")
}

// fromServer reports whether a source is a server, which may be this one, and
// not a file of the proxy's.
func fromServer(s *corev3.ConfigSource) bool {
	old := s.GetPath() //nolint:staticcheck // Envoy still reads it
	return old == "" && s.GetPathConfigSource() == nil
}
