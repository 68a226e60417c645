package main

import (
	"fmt"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// maxChanges bounds the changes of a turn: each has a marker of its own.
const maxChanges = 1_000_000

// scene is the configuration that all servers serve: fleets with clusters of
// their own, and the endpoints of each. A change gives the first endpoint of one
// cluster an address that no other change has; changes go to one fleet after
// the other.
type scene struct {
	fleets              int
	clusters, endpoints int // of a fleet, of a cluster
	// changes are the last ones of each cluster, 0 for none.
	changes []int
}

func newScene(fleets, clusters, endpoints int) *scene {
	return &scene{fleets: fleets, clusters: clusters, endpoints: endpoints, changes: make([]int, fleets*clusters)}
}

func fleetName(f int) string { return fmt.Sprintf("bench-%d", f) }

func clusterName(i int) string { return fmt.Sprintf("service-%04d", i) }

// of returns the numbers of a fleet's clusters.
func (s *scene) of(fleet int) []int {
	numbers := make([]int, s.clusters)
	for i := range numbers {
		numbers[i] = fleet*s.clusters + i
	}
	return numbers
}

func (s *scene) names(fleet int) []string {
	var names []string
	for _, i := range s.of(fleet) {
		names = append(names, clusterName(i))
	}
	return names
}

// marker is the address that only change n brings. All have the same length,
// and none is part of another.
func marker(n int) string {
	return fmt.Sprintf("198.%d.%d.%d", 100+n/10_000, 100+n/100%100, 100+n%100)
}

// fleetOf returns the fleet that change n concerns.
func (s *scene) fleetOf(n int) int { return n % s.fleets }

// change makes change n and returns the cluster whose endpoints it changes.
func (s *scene) change(n int) int {
	i := s.fleetOf(n)*s.clusters + n/s.fleets%s.clusters
	s.changes[i] = n
	return i
}

func (s *scene) cluster(i int) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 clusterName(i),
		ConnectTimeout:       durationpb.New(time.Second),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: &corev3.ConfigSource{
			ResourceApiVersion:    corev3.ApiVersion_V3,
			ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		}},
	}
}

func (s *scene) assignment(i int) *endpointv3.ClusterLoadAssignment {
	hosts := make([]*endpointv3.LbEndpoint, s.endpoints)
	for h := range hosts {
		address := fmt.Sprintf("10.%d.%d.%d", i/256%256, i%256, h+1)
		if h == 0 {
			address = marker(s.changes[i])
		}
		hosts[h] = &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
			Endpoint: &endpointv3.Endpoint{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{
				SocketAddress: &corev3.SocketAddress{
					Address: address, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 8080},
				},
			}}},
		}}
	}
	return &endpointv3.ClusterLoadAssignment{
		ClusterName: clusterName(i),
		Endpoints:   []*endpointv3.LocalityLbEndpoints{{LbEndpoints: hosts}},
	}
}

func encode(m proto.Message) ([]byte, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", m, err)
	}
	return b, nil
}
