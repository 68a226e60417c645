package transport

import (
	"context"
	"fmt"
	"net"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
)

// DialFunc opens a connection to host and port; the name is looked up anew.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Dialer opens connections to other nodes' Raft ports.
type Dialer struct {
	dial DialFunc
	gate Gatekeeper
}

// NewDialer makes a Dialer; a nil dial means plain TCP.
func NewDialer(dial DialFunc, gate Gatekeeper) *Dialer {
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	return &Dialer{dial: dial, gate: gate}
}

// Connect dials address and says hello. An empty target takes whoever
// answers; the Welcome says who that is. A target must be one of our own.
func (d *Dialer) Connect(ctx context.Context, kind clusterpb.Hello_Kind, target, address string) (net.Conn, *clusterpb.Welcome, error) {
	conn, err := d.dial(ctx, "tcp", address)
	if err != nil {
		return nil, nil, fmt.Errorf("dial %s: %w", address, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	self := d.gate.Welcome()
	welcome, err := sendHello(conn, &clusterpb.Hello{
		Kind: kind, ClusterId: self.ClusterId, Source: self.ServerId, Target: target, Recoveries: self.Recoveries,
	})
	if welcome != nil {
		if reason := d.gate.Believe(welcome); reason != "" && target != "" && err == nil {
			err = fmt.Errorf("%s is not believed: %s", welcome.ServerId, reason)
		}
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("greet %s: %w", address, err)
	}
	return conn, welcome, nil
}
