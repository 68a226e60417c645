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
	protocol protocol
	scene    *scene
	// resumed: clients come back with everything, and are believed.
	resumed  bool
	fleets   []b0Fleet
	byName   map[string]int // fleets
	nothing  payload        // the response without listeners
	accepted atomic.Uint64

	mu sync.Mutex // guards the streams of fleets
}

// b0Fleet is what the clients of a fleet are sent.
type b0Fleet struct {
	clusters, endpoints payload
	streams             []grpc.ServerStream
}

func newB0(p protocol, s *scene, resumed bool) (*b0, error) {
	b := &b0{protocol: p, scene: s, resumed: resumed, byName: map[string]int{}}
	var errs error
	for f := range s.fleets {
		var clusters, endpoints []proto.Message
		for _, i := range s.of(f) {
			clusters = append(clusters, s.cluster(i))
			endpoints = append(endpoints, s.assignment(i))
		}
		of := b0Fleet{}
		var err, err2 error
		of.clusters, err = b.frame(fsm.TypeCluster, 1, s.names(f), clusters)
		of.endpoints, err2 = b.frame(fsm.TypeEndpoints, 2, s.names(f), endpoints)
		errs = errors.Join(errs, err, err2)
		b.byName[fleetName(f)] = f
		b.fleets = append(b.fleets, of)
	}
	nothing, err := b.frame(fsm.TypeListener, 3, nil, nil)
	b.nothing = nothing
	return b, errors.Join(errs, err)
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

// serve is one stream: the first request asks for clusters, the second accepts
// them, the third asks for endpoints, the others accept. One that comes back
// asks for both, and for listeners, of which there are none.
func (b *b0) serve(s grpc.ServerStream) error {
	hello := &greeting{protocol: b.protocol}
	if err := s.RecvMsg(hello); err != nil {
		return err
	}
	fleet := b.byName[hello.fleet]
	defer b.leave(fleet, s)
	err := b.greet(fleet, s)
	for err == nil {
		if err = s.RecvMsg(&unread{}); err == nil {
			b.accepted.Add(1)
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// greet leads a stream until it is configured.
func (b *b0) greet(fleet int, s grpc.ServerStream) error {
	of := b.fleets[fleet] // its frames
	first, last := of.clusters, of.endpoints
	if b.resumed {
		first, last = nil, b.nothing
	}
	if first != nil {
		if err := s.SendMsg(first); err != nil {
			return err
		}
	}
	for n := range 2 {
		if err := s.RecvMsg(&unread{}); err != nil {
			return err
		}
		if first != nil && n == 0 {
			b.accepted.Add(1)
		}
	}
	b.join(fleet, s)
	return s.SendMsg(last)
}

func (b *b0) join(fleet int, s grpc.ServerStream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fleets[fleet].streams = append(b.fleets[fleet].streams, s)
}

func (b *b0) leave(fleet int, s grpc.ServerStream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fleets[fleet].streams = slices.DeleteFunc(b.fleets[fleet].streams, func(o grpc.ServerStream) bool { return o == s })
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
	for _, s := range b.fleets[b.scene.fleetOf(n)].streams {
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
