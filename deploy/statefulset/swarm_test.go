package statefulset

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/org/envoy-control-plane/fsm"
)

// swarm is many proxies with an aggregated delta stream each, that behave as
// Envoys with the bootstrap of deploy/bootstrap do: they look the nodes up in
// the DNS, take any of them, and come back with what they have.
type swarm struct {
	fleet   string
	target  string // host:port, of all nodes
	proxies []*proxy
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	// resent counts resources that a proxy had in that very version, older
	// those that it had in a later one.
	resent, older atomic.Int64
	wrong         func(format string, args ...any)
}

// proxy is one of them. Its goroutine alone uses it, but for what is atomic.
type proxy struct {
	swarm *swarm
	id    string
	// has is what it has: versions by name, by type.
	has map[string]map[string]string
	// live: its stream has been answered.
	live atomic.Bool
	// endpoints is the last assignment that came.
	endpoints atomic.Pointer[[]byte]
	ends      atomic.Int64 // of streams
}

func startSwarm(size int, fleet, service, target string, wrong func(string, ...any)) *swarm {
	ctx, cancel := context.WithCancel(context.Background())
	s := &swarm{fleet: fleet, target: target, cancel: cancel, wrong: wrong}
	for i := range size {
		p := &proxy{swarm: s, id: fmt.Sprintf("%s-%04d", fleet, i), has: map[string]map[string]string{
			fsm.TypeCluster: {}, fsm.TypeEndpoints: {service: ""}, fsm.TypeListener: {},
		}}
		s.proxies = append(s.proxies, p)
		s.wg.Go(func() { p.run(ctx) })
	}
	return s
}

func (s *swarm) close() {
	s.cancel()
	s.wg.Wait()
}

// has returns nil when every proxy has a stream, and endpoints that contain
// an address.
func (s *swarm) has(address string) error {
	for _, p := range s.proxies {
		if !p.live.Load() {
			return fmt.Errorf("%s has no stream", p.id)
		}
		if got := p.endpoints.Load(); got == nil || !bytes.Contains(*got, []byte(address)) {
			return fmt.Errorf("%s has not got %s", p.id, address)
		}
	}
	return nil
}

// ends is how many streams have ended so far.
func (s *swarm) ends() (sum int64) {
	for _, p := range s.proxies {
		sum += p.ends.Load()
	}
	return sum
}

// run keeps the proxy connected, with the pauses of the bootstrap.
func (p *proxy) run(ctx context.Context) {
	for pause := 200 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, 5*time.Second) {
		_ = p.stream(ctx) // however it ended, it has to come again
		if p.live.Swap(false) {
			p.ends.Add(1)
			pause = 200 * time.Millisecond
		}
		select {
		case <-time.After(rand.N(pause)):
		case <-ctx.Done():
		}
	}
}

// stream connects to a node and takes what comes until the stream ends.
func (p *proxy) stream(ctx context.Context) error {
	node, err := p.swarm.anyNode(ctx)
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient("passthrough:///"+node,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithReadBufferSize(4<<10), grpc.WithWriteBufferSize(4<<10), grpc.WithIdleTimeout(0), grpc.WithDisableServiceConfig(),
		grpc.WithContextDialer((&dialer{}).dial),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	unanswered := time.AfterFunc(5*time.Second, cancel)
	defer unanswered.Stop()
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	if err := p.subscribe(stream); err != nil {
		return err
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		// Listeners were asked for last, and there are none.
		if response.TypeUrl == fsm.TypeListener {
			unanswered.Stop()
			p.live.Store(true)
		}
		p.take(response)
		err = stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: response.TypeUrl, ResponseNonce: response.Nonce})
		if err != nil {
			return err
		}
	}
}

// subscribe asks for all clusters, for the endpoints by name, and for all
// listeners, with what the proxy has.
func (p *proxy) subscribe(stream grpc.BidiStreamingClient[discovery.DeltaDiscoveryRequest, discovery.DeltaDiscoveryResponse]) error {
	node := &corev3.Node{Id: p.id, Cluster: p.swarm.fleet}
	for _, typeURL := range []string{fsm.TypeCluster, fsm.TypeEndpoints, fsm.TypeListener} {
		request := &discovery.DeltaDiscoveryRequest{Node: node, TypeUrl: typeURL, InitialResourceVersions: map[string]string{}}
		for name, version := range p.has[typeURL] {
			if version != "" {
				request.InitialResourceVersions[name] = version
			}
			if typeURL == fsm.TypeEndpoints {
				request.ResourceNamesSubscribe = append(request.ResourceNamesSubscribe, name)
			}
		}
		if err := stream.Send(request); err != nil {
			return err
		}
		node = nil
	}
	return nil
}

// take notes what a response brings.
func (p *proxy) take(response *discovery.DeltaDiscoveryResponse) {
	has := p.has[response.TypeUrl]
	for _, r := range response.Resources {
		switch before := has[r.Name]; {
		case before == r.Version:
			p.swarm.resent.Add(1)
			p.swarm.wrong("%s was sent %s again, version %s", p.id, r.Name, r.Version)
		case indexOf(r.Version) < indexOf(before):
			p.swarm.older.Add(1)
			p.swarm.wrong("%s was sent %s, version %s, after %s", p.id, r.Name, r.Version, before)
		}
		has[r.Name] = r.Version
		if response.TypeUrl == fsm.TypeEndpoints {
			p.endpoints.Store(&r.Resource.Value)
		}
	}
	for _, name := range response.RemovedResources {
		p.swarm.wrong("%s lost %s", p.id, name)
	}
}

// indexOf is the log index in a version, "<index>-<hash>"; 0 for none.
func indexOf(version string) uint64 {
	text, _, _ := strings.Cut(version, "-")
	index, _ := strconv.ParseUint(text, 10, 64)
	return index
}

// anyNode looks the nodes up and returns any.
func (s *swarm) anyNode(ctx context.Context) (string, error) {
	host, port, err := net.SplitHostPort(s.target)
	if err != nil {
		return "", err
	}
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(addresses[rand.IntN(len(addresses))], port), nil
}

// dialer connects once: a proxy that was refused takes another node.
type dialer struct{ used atomic.Bool }

func (d *dialer) dial(ctx context.Context, address string) (net.Conn, error) {
	if d.used.Swap(true) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
}
