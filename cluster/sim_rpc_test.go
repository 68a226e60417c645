package cluster

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
)

// simRPC is one node's connection to another, over a simNet: the node's own
// server answers, without gRPC between.
type simRPC struct {
	x       *simNode
	resolve func() (target, address string)
	done    chan struct{}
	once    sync.Once
}

var _ rpcConn = (*simRPC)(nil)

// simKeepalive is when gRPC gives up a connection that is silent.
const simKeepalive = 13 * time.Second

// Invoke implements grpc.ClientConnInterface.
func (c *simRPC) Invoke(ctx context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	n := c.x.sim.net
	target, address := c.resolve()
	host, _, _ := strings.Cut(address, ":")
	l := simLink{c.x.host.id, host}
	switch cut := n.cut(l) || n.cut(simLink{l.to, l.from}); {
	case address == "":
		return unavailable(ctx, n, "no address is known")
	case cut && n.often(500): // there is no connection yet
		return unavailable(ctx, n, "cannot connect")
	case n.at(host) == nil:
		return unavailable(ctx, n, errSimRefused.Error())
	}
	if sent, ok := ctx.Value(sentKey{}).(*atomic.Bool); ok {
		sent.Store(true)
	}
	answer := make(chan error, 1)
	got := proto.Clone(reply.(proto.Message))
	request := proto.Clone(args.(proto.Message))
	n.wg.Go(func() { c.carry(ctx, l, target, method, request, got, answer) })
	select {
	case err := <-answer:
		if err == nil {
			proto.Merge(reply.(proto.Message), got)
		}
		return err
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	case <-c.done:
		return status.Error(codes.Canceled, "the connection is closing")
	}
}

// unavailable is what a caller hears who cannot connect.
func unavailable(ctx context.Context, n *simNet, why string) error {
	select {
	case <-time.After(n.upTo(500 * time.Millisecond)):
		return status.Error(codes.Unavailable, why)
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

// carry takes a request over, has it answered, and takes the answer back. Who
// has lost one hears of it after a while.
func (c *simRPC) carry(ctx context.Context, l simLink, target, method string, args, got proto.Message, answer chan<- error) {
	n := c.x.sim.net
	if c.x.crashed() {
		return
	}
	if n.travel(l) {
		if err, ok := c.serve(ctx, l, target, method, args, got); ok && n.travel(simLink{l.to, l.from}) {
			answer <- err
			return
		}
	}
	n.trace.note(l.from, "lost: %s to %s", path.Base(method), l.to)
	after := simKeepalive
	if n.often(500) {
		after = n.upTo(500 * time.Millisecond)
	}
	if n.pause(after) {
		answer <- status.Error(codes.Unavailable, errSimReset.Error())
	}
}

// serve has the other node answer; false when that crashes meanwhile.
func (c *simRPC) serve(caller context.Context, l simLink, target, method string, args, got proto.Message) (error, bool) { //nolint:revive // the error is the answer
	x := c.x.sim.net.at(l.to)
	if x == nil {
		return status.Error(codes.Unavailable, errSimRefused.Error()), true
	}
	self := c.x.node.Welcome()
	hello := &clusterpb.Hello{Kind: clusterpb.Hello_RPC, ClusterId: self.ClusterId, Source: self.ServerId, Target: target, Recoveries: self.Recoveries}
	if refusal := x.node.Admit(hello); refusal != "" {
		return status.Error(codes.Unavailable, refusal), true
	}
	if reason := c.x.node.Believe(x.node.Welcome()); reason != "" && target != "" {
		return status.Error(codes.Unavailable, reason), true
	}
	// Who gives up is heard of, unless the link is cut; so is who stops.
	ctx, cancel := context.WithCancel(context.WithoutCancel(caller))
	defer cancel()
	if deadline, ok := caller.Deadline(); ok {
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	defer context.AfterFunc(caller, func() {
		if !c.x.sim.net.cut(l) {
			cancel()
		}
	})()
	defer context.AfterFunc(x.ctx, cancel)()
	out, err := handle(ctx, x.node, method, args)
	if err == nil {
		proto.Merge(got, out)
	}
	return err, !x.crashed()
}

// handle calls the method that gRPC would call.
func handle(ctx context.Context, n *Node, method string, args proto.Message) (proto.Message, error) {
	for _, m := range clusterpb.Peer_ServiceDesc.Methods {
		if m.MethodName != path.Base(method) {
			continue
		}
		out, err := m.Handler(&server{n: n}, ctx, func(in any) error {
			proto.Merge(in.(proto.Message), args)
			return nil
		}, nil)
		if err != nil {
			return nil, err //nolint:wrapcheck // the handler's own
		}
		return out.(proto.Message), nil
	}
	return nil, fmt.Errorf("no method %s", method)
}

// NewStream implements grpc.ClientConnInterface: backups are not simulated.
func (c *simRPC) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, errors.ErrUnsupported
}

// Close implements rpcConn.
func (c *simRPC) Close() error {
	c.once.Do(func() { close(c.done) })
	return nil
}
