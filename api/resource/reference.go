package resource

import (
	"net"
	"net/netip"
	"slices"
	"strconv"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// references returns the names that a message needs others to answer for,
// ordered by path.
func (d *Decoder) references(m protoreflect.Message) []*fsmpb.Reference {
	var out []*fsmpb.Reference
	d.visit("", m, func(path string, m protoreflect.Message) {
		add := func(kind fsmpb.Reference_Kind, name, field string) {
			if name != "" {
				out = append(out, &fsmpb.Reference{Kind: kind, Name: name, Path: join(path, field)})
			}
		}
		referencesOf(m, add)
	})
	slices.SortStableFunc(out, func(a, b *fsmpb.Reference) int {
		if a.Path < b.Path {
			return -1
		}
		if a.Path > b.Path {
			return 1
		}
		return 0
	})
	return out
}

// referencesOf returns those of one message, without what is below it.
func referencesOf(m protoreflect.Message, add func(kind fsmpb.Reference_Kind, name, field string)) {
	switch m := m.Interface().(type) {
	case *routev3.RouteAction:
		add(fsmpb.Reference_CLUSTER, m.GetCluster(), "cluster")
	case *routev3.WeightedCluster_ClusterWeight:
		add(fsmpb.Reference_CLUSTER, m.GetName(), "name")
	case *routev3.RouteAction_RequestMirrorPolicy:
		add(fsmpb.Reference_CLUSTER, m.GetCluster(), "cluster")
	case *tcpv3.TcpProxy:
		add(fsmpb.Reference_CLUSTER, m.GetCluster(), "cluster")
	case *tcpv3.TcpProxy_WeightedCluster_ClusterWeight:
		add(fsmpb.Reference_CLUSTER, m.GetName(), "name")
	case *corev3.GrpcService_EnvoyGrpc:
		add(fsmpb.Reference_CLUSTER, m.GetClusterName(), "cluster_name")
	case *corev3.HttpUri:
		add(fsmpb.Reference_CLUSTER, m.GetCluster(), "cluster")
	case *routev3.ScopedRouteConfiguration:
		add(fsmpb.Reference_ROUTE, m.GetRouteConfigurationName(), "route_configuration_name")
	case *hcmv3.Rds:
		add(fsmpb.Reference_ROUTE, m.GetRouteConfigName(), "route_config_name")
	case *tlsv3.SdsSecretConfig:
		if m.GetSdsConfig() != nil {
			add(fsmpb.Reference_SECRET, m.GetName(), "name")
		}
	case *hcmv3.HttpFilter:
		if m.GetConfigDiscovery() != nil {
			add(fsmpb.Reference_EXTENSION, m.GetName(), "config_discovery")
		}
	case *listenerv3.Filter:
		if m.GetConfigDiscovery() != nil {
			add(fsmpb.Reference_EXTENSION, m.GetName(), "config_discovery")
		}
	case *listenerv3.ListenerFilter:
		if m.GetConfigDiscovery() != nil {
			add(fsmpb.Reference_EXTENSION, m.GetName(), "config_discovery")
		}
	case *clusterv3.Cluster:
		if m.GetType() != clusterv3.Cluster_EDS {
			return
		}
		if service := m.GetEdsClusterConfig().GetServiceName(); service != "" {
			add(fsmpb.Reference_ENDPOINTS, service, "eds_cluster_config.service_name")
		} else {
			add(fsmpb.Reference_ENDPOINTS, m.GetName(), "name")
		}
	}
}

// binds returns the addresses that a listener occupies, "tcp/0.0.0.0:80".
func binds(m protoreflect.Message) []string {
	l, ok := m.Interface().(*listenerv3.Listener)
	if !ok || l.GetBindToPort() != nil && !l.GetBindToPort().GetValue() {
		return nil
	}
	var out []string
	addresses := []*corev3.Address{l.GetAddress()}
	for _, a := range l.GetAdditionalAddresses() {
		addresses = append(addresses, a.GetAddress())
	}
	for _, a := range addresses {
		if bind := bindOf(a); bind != "" {
			out = append(out, bind)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func bindOf(a *corev3.Address) string {
	if pipe := a.GetPipe().GetPath(); pipe != "" {
		return "unix/" + pipe
	}
	socket := a.GetSocketAddress()
	if socket == nil || socket.GetPortValue() == 0 { // port 0: a free one
		return ""
	}
	transport := "tcp/"
	if socket.GetProtocol() == corev3.SocketAddress_UDP {
		transport = "udp/"
	}
	host := socket.GetAddress()
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.Unmap().String()
	}
	return transport + net.JoinHostPort(host, strconv.FormatUint(uint64(socket.GetPortValue()), 10))
}
