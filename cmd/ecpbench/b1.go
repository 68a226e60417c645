package main

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
)

// b1 is go-control-plane's server on its SnapshotCache.
type b1 struct {
	scene    *scene
	cache    cachev3.SnapshotCache
	clusters [][]types.Resource // by fleet
	accepted atomic.Uint64
}

// sharedKey makes one snapshot serve all nodes of a fleet.
type sharedKey struct{}

// ID implements cachev3.NodeHash.
func (sharedKey) ID(n *corev3.Node) string { return n.GetCluster() }

func newB1(s *scene) (*b1, error) {
	b := &b1{scene: s, cache: cachev3.NewSnapshotCache(true, sharedKey{}, nil)}
	for f := range s.fleets {
		var clusters []types.Resource
		for _, i := range s.of(f) {
			clusters = append(clusters, s.cluster(i))
		}
		b.clusters = append(b.clusters, clusters)
		if err := b.publish(f, 0); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// options undo the codec of package xds.
func (b *b1) options() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ForceServerCodecV2(encoding.GetCodecV2(grpcproto.Name))}
}

func (b *b1) register(g *grpc.Server) {
	s := serverv3.NewServer(context.Background(), b.cache, serverv3.CallbackFuncs{
		StreamRequestFunc: func(_ int64, r *discoveryv3.DiscoveryRequest) error {
			return b.count(r.ResponseNonce)
		},
		StreamDeltaRequestFunc: func(_ int64, r *discoveryv3.DeltaDiscoveryRequest) error {
			return b.count(r.ResponseNonce)
		},
	})
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s)
}

func (b *b1) count(nonce string) error {
	if nonce != "" {
		b.accepted.Add(1)
	}
	return nil
}

func (b *b1) change(n int) error {
	b.scene.change(n)
	return b.publish(b.scene.fleetOf(n), n)
}

// publish sets a fleet's snapshot, in which only endpoints have a new version.
func (b *b1) publish(fleet, n int) error {
	var endpoints []types.Resource
	for _, i := range b.scene.of(fleet) {
		endpoints = append(endpoints, b.scene.assignment(i))
	}
	s := &cachev3.Snapshot{}
	s.Resources[types.Cluster] = cachev3.NewResources("0", b.clusters[fleet])
	s.Resources[types.Endpoint] = cachev3.NewResources(strconv.Itoa(n), endpoints)
	s.Resources[types.Listener] = cachev3.NewResources("0", nil)
	if err := b.cache.SetSnapshot(context.Background(), fleetName(fleet), s); err != nil {
		return fmt.Errorf("set snapshot: %w", err)
	}
	return nil
}

func (b *b1) acks() (uint64, error) { return b.accepted.Load(), nil }
