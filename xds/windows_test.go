package xds

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/org/envoy-control-plane/fsm"
)

// tapped is a connection whose incoming bytes go to a second reader as well.
type tapped struct {
	net.Conn
	to *io.PipeWriter
}

func (c tapped) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	_, _ = c.to.Write(b[:n])
	return n, err
}

func (c tapped) Close() error { return errors.Join(c.to.Close(), c.Conn.Close()) }

// The server does not measure the path to a proxy: each request would cost it
// a ping, and what answers that. A request may be large all the same.
func TestRequestsCostNoPings(t *testing.T) {
	f := newFixture(t)
	from, to := io.Pipe()
	pings := make(chan int)
	go func() {
		n := 0
		for frames := http2.NewFramer(nil, from); ; {
			frame, err := frames.ReadFrame()
			if err != nil {
				pings <- n
				return
			}
			if p, ok := frame.(*http2.PingFrame); ok && !p.IsAck() {
				n++
			}
		}
	}()
	conn, err := grpc.NewClient("passthrough:///"+f.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			return tapped{c, to}, err
		}))
	check(t, err)
	c := f.connectOn(conn, "/envoy.service.endpoint.v3.EndpointDiscoveryService/DeltaEndpoints", node("p1", "web", ""))
	names := manyNames(30_000) // some megabytes, which is more than the windows
	c.ask(fsm.TypeEndpoints, names...)
	r := c.next()
	if n := r.speaksOf(); n != len(names) {
		t.Fatalf("%d names answered", n)
	}
	c.ack(r)
	for range 20 {
		c.ask(fsm.TypeEndpoints, names[0])
		c.accept("endpoints -" + names[0])
	}
	c.close()
	check(t, conn.Close())
	if n := <-pings; n > 0 {
		t.Errorf("%d pings", n)
	}
}
