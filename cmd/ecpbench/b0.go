package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/org/envoy-control-plane/fsm"
)

// b0 is the bare server: it knows in which order its clients ask, decodes
// nothing, and hands the same bytes to every stream. The frames are those of
// package xds but for the nonce, which all streams share.
type b0 struct {
	protocol            protocol
	scene               *scene
	clusters, endpoints payload
	accepted            atomic.Uint64

	mu      sync.Mutex
	streams []grpc.ServerStream
}

func newB0(p protocol, s *scene) (*b0, error) {
	b := &b0{protocol: p, scene: s}
	var clusters, endpoints []proto.Message
	for i := range s.clusters {
		clusters = append(clusters, s.cluster(i))
		endpoints = append(endpoints, s.assignment(i))
	}
	var err, err2 error
	b.clusters, err = b.frame(fsm.TypeCluster, 1, s.names(), clusters)
	b.endpoints, err2 = b.frame(fsm.TypeEndpoints, 2, s.names(), endpoints)
	return b, errors.Join(err, err2)
}

func (b *b0) options() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ForceServerCodecV2(codec{})}
}

func (b *b0) register(g *grpc.Server) {
	g.RegisterService(&grpc.ServiceDesc{
		ServiceName: aggregatedService, HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{
			StreamName: b.protocol.method(), ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, s grpc.ServerStream) error { return b.serve(s) },
		}},
	}, b)
}

// serve is one stream: the first request asks for clusters, the second
// accepts them, the third asks for endpoints, the others accept.
func (b *b0) serve(s grpc.ServerStream) error {
	defer b.leave(s)
	for n := 1; ; n++ {
		if err := s.RecvMsg(&unread{}); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		var err error
		switch n {
		case 1:
			err = s.SendMsg(b.clusters)
		case 3:
			err = s.SendMsg(b.endpoints)
			b.join(s)
		default:
			b.accepted.Add(1)
		}
		if err != nil {
			return err
		}
	}
}

func (b *b0) join(s grpc.ServerStream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.streams = append(b.streams, s)
}

func (b *b0) leave(s grpc.ServerStream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.streams = slices.DeleteFunc(b.streams, func(o grpc.ServerStream) bool { return o == s })
}

func (b *b0) change(n int) error {
	i := b.scene.change(n)
	names, messages := []string{clusterName(i)}, []proto.Message{b.scene.assignment(i)}
	f, err := b.frame(fsm.TypeEndpoints, n, names, messages)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.streams {
		if err := s.SendMsg(f); err != nil {
			return fmt.Errorf("broadcast: %w", err)
		}
	}
	return nil
}

func (b *b0) acks() (uint64, error) { return b.accepted.Load(), nil }

// frame encodes a response of these resources.
func (b *b0) frame(typeURL string, n int, names []string, messages []proto.Message) (payload, error) {
	nonce, by := fmt.Sprintf("b0.%d", n), &corev3.ControlPlane{Identifier: nodeName}
	full := &discoveryv3.DiscoveryResponse{TypeUrl: typeURL, Nonce: nonce, ControlPlane: by}
	some := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeURL, Nonce: nonce, ControlPlane: by}
	for i, m := range messages {
		body, err := encode(m)
		if err != nil {
			return nil, err
		}
		version := fsm.Version(uint64(n), fsm.ResourceHash(body, nil, 0))
		resource := &anypb.Any{TypeUrl: typeURL, Value: body}
		full.VersionInfo, some.SystemVersionInfo = version, version
		full.Resources = append(full.Resources, resource)
		some.Resources = append(some.Resources, &discoveryv3.Resource{Name: names[i], Version: version, Resource: resource})
	}
	var m proto.Message = full
	if b.protocol == delta {
		m = some
	}
	frame, err := encode(m)
	return payload{frame}, err
}
