package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/xds"
)

// gRPC is a client of the protocol that shares no code with Envoy: it asks for
// everything by name, in the state of the world, and never for a wildcard.

// grpcBootstrap is that of a gRPC program of fleet "mesh".
func grpcBootstrap(c *cluster, id string) []byte {
	return fmt.Appendf(nil, `{
		"xds_servers": [{"server_uri": %q, "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}],
		"authorities": {"edge": {}},
		"node": {"id": %q, "cluster": "mesh"},
		"server_listener_resource_name_template": "grpc/server?listening_address=%%s"
	}`, c.nodes[0].XDS(), id)
}

// greeterNames are how a target of gRPC has its listener and route called.
type greeterNames struct{ target, listener, route string }

func namesOfGreeter() map[string]greeterNames {
	const edge = "xdstp://edge/envoy.config."
	return map[string]greeterNames{
		"plain": {"xds:///greeter", "greeter", "greeter"},
		"xdstp": {"xds://edge/greeter", edge + "listener.v3.Listener/greeter", edge + "route.v3.RouteConfiguration/greeter"},
	}
}

// withFilter is the listener with a filter before the last one.
func (n greeterNames) withFilter(config string) string {
	return fmt.Sprintf(grpcListener, config, n.listener, n.route)
}

const grpcListener = `---
"@type": type.googleapis.com/envoy.config.listener.v3.Listener
name: %[2]s
api_listener:
  api_listener:
    "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
    stat_prefix: greeter
    rds: {route_config_name: "%[3]s", config_source: {ads: {}, resource_api_version: V3}}
    http_filters:
      - name: first
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.%[1]s}
      - name: router
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
`

// routeTo leads to a cluster, whose endpoints it brings along.
func (n greeterNames) routeTo(cluster, address string) string {
	_, port, _ := net.SplitHostPort(address)
	return fmt.Sprintf(`---
"@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
name: %[2]s
virtual_hosts:
  - name: all
    domains: ["*"]
    routes: [{match: {prefix: ""}, route: {cluster: %[1]s}}]
---
"@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
name: %[1]s
type: EDS
eds_cluster_config: {eds_config: {ads: {}, resource_api_version: V3}}
`, cluster, n.route) + grpcEndpoints(cluster, port)
}

func grpcEndpoints(service, port string) string {
	return fmt.Sprintf(`---
"@type": type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment
cluster_name: %s
endpoints:
  - locality: {region: r, zone: z}
    load_balancing_weight: 1
    lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %s}}}}]
`, service, port)
}

const faultFilter = "fault.v3.HTTPFault"

func TestProxylessGRPCClient(t *testing.T) {
	t.Parallel()
	for kind, names := range namesOfGreeter() {
		t.Run(kind, func(t *testing.T) { testGRPCClient(t, names) })
	}
}

func testGRPCClient(t *testing.T, names greeterNames) {
	c := startCluster(t, 1, "")
	one, two, three := startGreeter(t), startGreeter(t), startGreeter(t)
	apply := func(yaml string, want int) string {
		return c.ecpctl(want, yaml, "apply", "-f", "-", "--fleet", "mesh", "--wait=20s")
	}
	apply(names.withFilter(faultFilter)+names.routeTo("a", one), 0)

	builder, err := xds.NewXDSResolverWithConfigForTesting(grpcBootstrap(c, "grpc-client"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(names.target, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithResolvers(builder))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := func(want string) {
		t.Helper()
		eventually(t, 20*time.Second, "calls are answered by "+want, func() error { return greets(conn, want) })
	}
	answers(one)
	eventually(t, 10*time.Second, "the client is registered", func() error { return c.synced("grpc-client", 1) })

	apply(grpcEndpoints("a", portOf(two)), 0)
	answers(two)

	apply(names.routeTo("b", three), 0)
	answers(three)

	// A filter that gRPC does not have, and Envoy's rules allow.
	out := apply(names.withFilter("buffer.v3.Buffer, max_request_bytes: 1"), 4)
	if !strings.Contains(out, "grpc-client") || !strings.Contains(out, "buffer.v3.Buffer") {
		t.Errorf("the rejection is not told:\n%s", out)
	}
	answers(three)
	apply(names.withFilter(faultFilter), 0)
	answers(three)
}

func TestProxylessGRPCServer(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, "")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	modes := make(chan connectivity.ServingMode, 100)
	server, err := xds.NewGRPCServer(xds.BootstrapContentsForTesting(grpcBootstrap(c, "grpc-server")),
		xds.ServingModeCallback(func(_ net.Addr, m xds.ServingModeChangeArgs) { modes <- m.Mode }))
	if err != nil {
		t.Fatal(err)
	}
	serveGreeter(t, server, ln)

	c.ecpctl(0, fmt.Sprintf(`---
"@type": type.googleapis.com/envoy.config.listener.v3.Listener
name: grpc/server?listening_address=%[1]s
address: {socket_address: {address: 127.0.0.1, port_value: %[2]s}}
filter_chains:
  - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: inbound
          rds: {route_config_name: inbound, config_source: {ads: {}, resource_api_version: V3}}
          http_filters:
            - name: router
              typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
---
"@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
name: inbound
virtual_hosts:
  - name: all
    domains: ["*"]
    routes: [{match: {prefix: ""}, non_forwarding_action: {}}]
`, address, portOf(address)), "apply", "-f", "-", "--fleet", "mesh", "--wait=20s")

	conn := dialGreeter(t, address)
	eventually(t, 20*time.Second, "the server has its listener and route", func() error { return greets(conn, address) })
	if mode := <-modes; mode != connectivity.ServingModeServing {
		t.Errorf("the server's first mode is %v", mode)
	}
	eventually(t, 10*time.Second, "the server is registered", func() error { return c.synced("grpc-server", 1) })
}

// greeter is what a test needs of both kinds of gRPC server.
type greeter interface {
	grpc.ServiceRegistrar
	Serve(net.Listener) error
	Stop()
}

// startGreeter serves health checks at a port of its own and returns its
// address.
func startGreeter(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveGreeter(t, grpc.NewServer(), ln)
	return ln.Addr().String()
}

func serveGreeter(t *testing.T, server greeter, ln net.Listener) {
	healthpb.RegisterHealthServer(server, health.NewServer())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Errorf("serve: %v", err)
		}
	})
}

func dialGreeter(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// greets returns nil when a call is answered, by the server with an address if
// one is given.
func greets(conn *grpc.ClientConn, want string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var from peer.Peer
	if _, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.Peer(&from)); err != nil {
		return err
	}
	if want != "" && from.Addr.String() != want {
		return fmt.Errorf("answered by %s", from.Addr)
	}
	return nil
}

func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}
