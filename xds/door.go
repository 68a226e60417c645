package xds

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// greetTime is how long a new connection keeps its place at most, so that those
// which are far away, or silent, hold up the others little.
const greetTime = 50 * time.Millisecond

// door bounds how many new connections are greeted at a time, from the
// handshake until the first request is there. Those that wait, first come first
// served, are accepted and cost a goroutine that has not done anything yet.
type door struct {
	credentials.TransportCredentials

	places  chan struct{}
	open    <-chan struct{} // closed when all may come in, to be sent away
	waiting prometheus.Gauge
}

// Credentials returns what the gRPC server must be made with for credentials:
// inner ones, behind which new connections come in a few at a time.
func (s *Server) Credentials(inner credentials.TransportCredentials) credentials.TransportCredentials {
	return &door{
		TransportCredentials: inner, places: make(chan struct{}, s.config.Greeted),
		open: s.leaving, waiting: s.metrics.atDoor,
	}
}

// ServerHandshake implements credentials.TransportCredentials.
func (d *door) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	g := d.enter()
	conn, auth, err := d.TransportCredentials.ServerHandshake(conn)
	if err != nil {
		g.greeted()
		return nil, nil, err //nolint:wrapcheck // gRPC compares it
	}
	g.AuthInfo = auth
	return conn, g, nil
}

// Clone implements credentials.TransportCredentials.
func (d *door) Clone() credentials.TransportCredentials {
	clone := *d
	clone.TransportCredentials = d.TransportCredentials.Clone()
	return &clone
}

// enter waits for a place.
func (d *door) enter() *guest {
	d.waiting.Inc()
	defer d.waiting.Dec()
	g := &guest{door: d}
	select {
	case d.places <- struct{}{}:
		time.AfterFunc(greetTime, g.greeted)
	case <-d.open:
		g.left.Store(true)
	}
	return g
}

// guest is a connection that came through the door, with what it was
// authenticated by.
type guest struct {
	credentials.AuthInfo

	door *door
	left atomic.Bool // has no place
}

// greeted leaves the place to the next one.
func (g *guest) greeted() {
	if g.left.CompareAndSwap(false, true) {
		<-g.door.places
	}
}

// greeted notes that the connection of an RPC has sent a request.
func greeted(ctx context.Context) {
	if from, ok := peer.FromContext(ctx); ok {
		if g, ok := from.AuthInfo.(*guest); ok {
			g.greeted()
		}
	}
}
