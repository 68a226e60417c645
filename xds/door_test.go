package xds

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"

	"github.com/org/envoy-control-plane/fsm"
)

// silent connects and says nothing.
func (f *fixture) silent() net.Conn {
	f.t.Helper()
	conn, err := net.Dial("tcp", f.address)
	check(f.t, err)
	f.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Connections come in one after the other, and those that do not say anything
// hold up the others for a moment each.
func TestNewConnectionsComeInAFewAtATime(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t, func(c *Config) { c.Greeted = 1 })
		f.replace(cluster(t, "a", 1))
		f.door.places <- struct{}{}
		const silents = 4
		for range silents {
			f.silent()
		}
		eventually(t, "they wait at the door", func() bool { return f.metric("ecp_xds_connections_waiting") == silents })
		opened := make(chan time.Time, 1)
		go func() {
			for f.metric("ecp_xds_connections_waiting") <= silents {
				time.Sleep(time.Millisecond)
			}
			opened <- time.Now()
			<-f.door.places
		}()
		c := f.connectAs(method, node("p", "web", ""))
		c.ask(fsm.TypeCluster)
		c.accept("cluster a")
		if took := time.Since(<-opened); took < silents*greetTime {
			t.Fatalf("after %v: it has not waited for the %d before it", took, silents)
		}
		eventually(t, "nobody waits", func() bool { return f.metric("ecp_xds_connections_waiting") == 0 })
	})
}

// A connection leaves its place with its first request.
func TestRequestGivesThePlaceAtTheDoorBack(t *testing.T) {
	s := New(Config{Greeted: 1}, Deps{})
	d, ok := s.Credentials(insecure.NewCredentials()).Clone().(*door)
	if !ok {
		t.Fatal("no door")
	}
	_, auth, err := d.ServerHandshake(nil)
	check(t, err)
	if len(d.places) != 1 {
		t.Fatal("it has no place")
	}
	greeted(peer.NewContext(context.Background(), &peer.Peer{AuthInfo: auth}))
	if len(d.places) != 0 {
		t.Fatal("it keeps its place")
	}
	greeted(peer.NewContext(context.Background(), &peer.Peer{AuthInfo: auth}))
	time.Sleep(2 * greetTime) // the place is not given back twice
}

// refusing is credentials with which nobody comes in.
type refusing struct {
	credentials.TransportCredentials
}

func (refusing) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, io.EOF
}

// What the inner credentials refuse is refused as they say, and keeps no place.
func TestRefusedConnectionsLeaveTheDoor(t *testing.T) {
	s := New(Config{Greeted: 1}, Deps{})
	d := s.Credentials(refusing{insecure.NewCredentials()})
	for range 3 {
		if _, _, err := d.ServerHandshake(nil); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
}

// Who waits at the door of a server that stops is told at once.
func TestDrainOpensTheDoor(t *testing.T) {
	s := New(Config{Greeted: 1}, Deps{})
	d := s.Credentials(insecure.NewCredentials())
	s.leave()
	began := time.Now()
	for range 1000 {
		_, _, err := d.ServerHandshake(nil)
		check(t, err)
	}
	if took := time.Since(began); took > 500*greetTime {
		t.Fatalf("%v: they have waited", took)
	}
}
