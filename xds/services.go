package xds

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/service/endpoint/v3"
	extensionv3 "github.com/envoyproxy/go-control-plane/envoy/service/extension/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/service/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/service/route/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"google.golang.org/grpc"

	"github.com/org/envoy-control-plane/fsm"
)

// Register adds the discovery services, and those of client status and of metrics, to a gRPC server that was made with
// ServerOptions. The Fetch methods, meant for REST polling, stay
// unimplemented.
func (s *Server) Register(g *grpc.Server) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, aggregated{server: s})
	for _, single := range singles() {
		g.RegisterService(single.desc(s), s)
	}
	statusv3.RegisterClientStatusDiscoveryServiceServer(g, clientStatus{server: s})
	g.RegisterService(metricsDesc(s), s)
}

// aggregated is the aggregated discovery service.
type aggregated struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	server *Server
}

// StreamAggregatedResources serves the state of the world.
func (a aggregated) StreamAggregatedResources(g discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return a.server.serve(g, stateOfTheWorld, "")
}

// DeltaAggregatedResources serves changes.
func (a aggregated) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return a.server.serve(g, delta, "")
}

// single is a discovery service of one type. They differ in nothing but
// names, so each is described by its generated description with our handlers.
type single struct {
	typeURL string
	of      grpc.ServiceDesc
}

func singles() []single {
	return []single{
		{fsm.TypeCluster, clusterv3.ClusterDiscoveryService_ServiceDesc},
		{fsm.TypeEndpoints, endpointv3.EndpointDiscoveryService_ServiceDesc},
		{fsm.TypeListener, listenerv3.ListenerDiscoveryService_ServiceDesc},
		{fsm.TypeRoute, routev3.RouteDiscoveryService_ServiceDesc},
		{fsm.TypeScopedRoute, routev3.ScopedRoutesDiscoveryService_ServiceDesc},
		{fsm.TypeVirtualHost, routev3.VirtualHostDiscoveryService_ServiceDesc},
		{fsm.TypeSecret, secretv3.SecretDiscoveryService_ServiceDesc},
		{fsm.TypeRuntime, runtimev3.RuntimeDiscoveryService_ServiceDesc},
		{fsm.TypeExtension, extensionv3.ExtensionConfigDiscoveryService_ServiceDesc},
	}
}

// desc returns the service's description with its streams served by s.
func (d single) desc(s *Server) *grpc.ServiceDesc {
	desc := &grpc.ServiceDesc{ServiceName: d.of.ServiceName, HandlerType: (*any)(nil), Metadata: d.of.Metadata}
	for _, g := range d.of.Streams {
		p := stateOfTheWorld
		if len(g.StreamName) > 5 && g.StreamName[:5] == "Delta" {
			p = delta
		}
		desc.Streams = append(desc.Streams, grpc.StreamDesc{
			StreamName: g.StreamName, ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, rpc grpc.ServerStream) error { return s.serve(rpc, p, d.typeURL) },
		})
	}
	return desc
}
