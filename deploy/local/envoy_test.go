package local_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"

	"github.com/org/envoy-control-plane/deploy/bootstrap"
	"github.com/org/envoy-control-plane/deploy/local"
)

// greeter is an xDS server that tells who came, and says nothing.
type greeter struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	nodes chan string
}

func (g *greeter) StreamAggregatedResources(s grpc.BidiStreamingServer[discovery.DiscoveryRequest, discovery.DiscoveryResponse]) error {
	req, err := s.Recv()
	if err != nil {
		return err
	}
	g.tell("sotw", req.GetNode())
	<-s.Context().Done()
	return nil
}

func (g *greeter) DeltaAggregatedResources(s grpc.BidiStreamingServer[discovery.DeltaDiscoveryRequest, discovery.DeltaDiscoveryResponse]) error {
	req, err := s.Recv()
	if err != nil {
		return err
	}
	g.tell("delta", req.GetNode())
	<-s.Context().Done()
	return nil
}

func (g *greeter) tell(protocol string, n *core.Node) {
	g.nodes <- strings.Join([]string{
		protocol, n.GetId(), n.GetCluster(), n.GetMetadata().GetFields()["tenant"].GetStringValue(),
		n.GetLocality().GetZone(), n.GetMetadata().GetFields()["labels"].GetStructValue().GetFields()["tier"].GetStringValue(),
	}, " ")
}

func startGreeter(t *testing.T) (*greeter, string, *grpc.Server) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &greeter{nodes: make(chan string, 100)}
	server := grpc.NewServer()
	discovery.RegisterAggregatedDiscoveryServiceServer(server, g)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return g, l.Addr().String(), server
}

func (g *greeter) expect(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-g.nodes:
		if got != want {
			t.Fatalf("came %q, want %q", got, want)
		}
	case <-time.After(15 * time.Second):
		t.Fatalf("nobody came, want %q", want)
	}
}

func TestEnvoyComesByItsBootstrap(t *testing.T) {
	for protocol, sotw := range map[string]bool{"sotw": true, "delta": false} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			a, addrA, serverA := startGreeter(t)
			b, addrB, serverB := startGreeter(t)
			text, err := bootstrap.Envoy(bootstrap.Options{
				Proxy: "edge-1", Fleet: "edge", Tenant: "acme", Zone: "eu-1", SotW: sotw,
				Labels: map[string]string{"tier": "gold"}, XDS: []string{addrA, addrB},
			})
			if err != nil {
				t.Fatal(err)
			}
			envoy, err := local.StartEnvoy(t.Context(), local.EnvoyOptions{Bootstrap: text, Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			stopped(t, envoy.Process)
			want := protocol + " edge-1 edge acme eu-1 gold"
			// It comes to one of the two; when that one goes, to the other.
			select {
			case got := <-a.nodes:
				if got != want {
					t.Fatalf("came %q, want %q", got, want)
				}
				serverA.Stop()
				b.expect(t, want)
			case got := <-b.nodes:
				if got != want {
					t.Fatalf("came %q, want %q", got, want)
				}
				serverB.Stop()
				a.expect(t, want)
			case <-time.After(15 * time.Second):
				t.Fatal("nobody came")
			}
		})
	}
}

func stopped(t *testing.T, p *local.Process) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
}

func TestEnvoyThatCannotStartSaysWhy(t *testing.T) {
	_, err := local.StartEnvoy(t.Context(), local.EnvoyOptions{Bootstrap: []byte("no_such_field: 1"), Dir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "no_such_field") {
		t.Fatalf("got %v, want Envoy's words about no_such_field", err)
	}
}

func TestUpstreamEchoes(t *testing.T) {
	u, err := local.StartUpstream("127.0.0.1:0", local.UpstreamHandler("blue"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + u.Addr + "/a?b=c")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	var echo local.Echo
	if err := json.Unmarshal(body, &echo); err != nil {
		t.Fatal(err)
	}
	if echo.Upstream != "blue" || echo.Path != "/a?b=c" || resp.Header.Get("X-Upstream") != "blue" {
		t.Fatalf("got %+v", echo)
	}
	if err := u.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}
