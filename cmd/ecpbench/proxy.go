package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/org/envoy-control-plane/fsm"
)

// Buffers and windows of a proxy's connection. With windows that do not move
// gRPC's client sends no pings to measure the path, as Envoy does not.
const (
	clientBuffer = 4 << 10
	clientWindow = 1 << 20
	maxResponse  = 256 << 20
)

// proxy is one connection with one aggregated stream. It accepts whatever
// comes.
type proxy struct {
	swarm  *swarm
	id     string
	fleet  int
	names  []byte            // encoded, of the endpoints
	had    map[string][]byte // what the first proxy got, for all to come back with
	stream grpc.ClientStream
	socket atomic.Pointer[net.TCPConn]
}

// run connects and reads until the stream ends. It calls configured when the
// proxy has clusters and endpoints.
func (p *proxy) run(ctx context.Context, configured func()) error {
	conn, err := grpc.NewClient("passthrough:///"+p.swarm.address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(p.dial),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{}), grpc.MaxCallRecvMsgSize(maxResponse), grpc.WaitForReady(true)),
		grpc.WithReadBufferSize(clientBuffer), grpc.WithWriteBufferSize(clientBuffer),
		grpc.WithStaticStreamWindowSize(clientWindow), grpc.WithStaticConnWindowSize(clientWindow),
		grpc.WithDisableServiceConfig(), grpc.WithIdleTimeout(0))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()
	p.stream, err = conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
		"/"+aggregatedService+"/"+p.swarm.protocol.method())
	if err != nil {
		return fmt.Errorf("open stream: %w", err)
	}
	configure := p.configure
	if p.swarm.had != nil {
		configure = p.resume
	}
	if err := configure(); err != nil {
		return err
	}
	configured()
	return p.follow()
}

func (p *proxy) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	socket, ok := conn.(*net.TCPConn)
	if !ok {
		return nil, errors.New("no TCP connection")
	}
	p.socket.Store(socket)
	return socket, nil
}

// configure asks for all clusters, then for their endpoints by name.
func (p *proxy) configure() error {
	protocol := p.swarm.protocol
	if err := p.send(protocol.subscribe(fsm.TypeCluster, protocol.node(p.id, fleetName(p.fleet)))); err != nil {
		return err
	}
	if err := p.receive(fsm.TypeCluster); err != nil {
		return err
	}
	if err := p.send(protocol.subscribe(fsm.TypeEndpoints, p.names)); err != nil {
		return err
	}
	return p.receive(fsm.TypeEndpoints)
}

// resume asks for the same with what the proxy has, and for all listeners: there
// are none, and the answer that says so comes after those to the rest.
func (p *proxy) resume() error {
	protocol, had := p.swarm.protocol, p.swarm.had
	if err := p.send(protocol.subscribe(fsm.TypeCluster, protocol.node(p.id, fleetName(p.fleet)), had[fsm.TypeCluster])); err != nil {
		return err
	}
	if err := p.send(protocol.subscribe(fsm.TypeEndpoints, p.names, had[fsm.TypeEndpoints])); err != nil {
		return err
	}
	if err := p.send(protocol.subscribe(fsm.TypeListener)); err != nil {
		return err
	}
	return p.receive(fsm.TypeListener)
}

// receive accepts responses until one of a type has come.
func (p *proxy) receive(typeURL string) error {
	first := p == p.swarm.proxies[0]
	r := &response{wanted: p.swarm.wave.Load, keep: first}
	for r.typeURL != typeURL {
		if err := p.stream.RecvMsg(r); err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		p.swarm.resent.Add(uint64(r.resources))
		if err := p.accept(r); err != nil {
			return err
		}
	}
	if first {
		if p.had == nil {
			p.had = map[string][]byte{}
		}
		p.had[typeURL] = p.swarm.protocol.had(r)
	}
	return nil
}

// follow accepts changes until the stream ends.
func (p *proxy) follow() error {
	r := &response{wanted: p.swarm.wave.Load}
	var had *wave
	for {
		if err := p.stream.RecvMsg(r); err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		fresh := r.got != nil && r.got != had
		if fresh {
			r.got.reached()
		}
		if err := p.accept(r); err != nil {
			return err
		}
		if !fresh {
			p.swarm.extra.Add(1)
			continue
		}
		had = r.got
		had.acknowledged()
	}
}

// accept acknowledges a response.
func (p *proxy) accept(r *response) error {
	s := p.swarm
	names := p.names
	if r.typeURL != fsm.TypeEndpoints {
		names = nil
	}
	// Counted before: the server must not have read more than was counted.
	s.acks.Add(1)
	return p.send(s.protocol.ack(r, names))
}

func (p *proxy) send(m payload) error {
	if err := p.stream.SendMsg(m); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}
