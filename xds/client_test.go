package xds

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/org/envoy-control-plane/fsm"
)

// Methods of the services that the tests speak to.
const (
	adsState = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
	adsDelta = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
)

// response is either protocol's, in the form that tests compare.
type response struct {
	url, nonce, version string
	identifier          string   // of the control plane
	names               []string // sorted
	removed             []string
	versions            map[string]string
	bodies              map[string]proto.Message
	aliases             map[string][]string // delta
	ttls                map[string]time.Duration
}

func (r *response) String() string {
	if r == nil {
		return "nothing"
	}
	s := fsm.ShortType(r.url) + " " + strings.Join(r.names, " ")
	if len(r.removed) > 0 {
		s += " -" + strings.Join(r.removed, " -")
	}
	return strings.Join(strings.Fields(s), " ")
}

// client is a proxy's end of one stream.
type client struct {
	t       testing.TB
	stream  grpc.ClientStream
	cancel  context.CancelFunc
	node    *corev3.Node
	delta   bool
	got     chan *response
	ended   chan error
	version map[string]string // state of the world: accepted version_info by type
	nonces  map[string]bool   // that came
}

func node(id, fleet, tenant string) *corev3.Node {
	n := &corev3.Node{Id: id, Cluster: fleet}
	if tenant != "" {
		n.Metadata = &structpb.Struct{Fields: map[string]*structpb.Value{"tenant": structpb.NewStringValue(tenant)}}
	}
	return n
}

// connect opens a stream of proxy p1 of fleet web.
func (f *fixture) connect(method string) *client { return f.connectAs(method, node("p1", "web", "")) }

func (f *fixture) connectAs(method string, n *corev3.Node) *client {
	f.t.Helper()
	return f.connectOn(f.conn, method, n)
}

func (f *fixture) connectOn(conn *grpc.ClientConn, method string, n *corev3.Node) *client {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	check(f.t, err)
	c := &client{
		t: f.t, stream: s, cancel: cancel, node: n, delta: strings.Contains(method, "/Delta"),
		got: make(chan *response, 1000), ended: make(chan error, 1), version: map[string]string{}, nonces: map[string]bool{},
	}
	go c.read()
	f.t.Cleanup(c.close)
	return c
}

func (c *client) close() {
	c.cancel()
	c.ended <- <-c.ended
}

func (c *client) read() {
	for {
		r, err := c.receive()
		if err != nil {
			c.ended <- err
			return
		}
		if err := c.malformed(r); err != nil {
			panic(err)
		}
		c.got <- r
	}
}

// malformed holds what is true of every response: a type, a nonce that no
// other response of the stream has, and no name twice.
func (c *client) malformed(r *response) error {
	spoken := map[string]bool{}
	for _, name := range slices.Concat(r.names, r.removed) {
		if spoken[name] {
			return fmt.Errorf("%v speaks twice of %s", r, name)
		}
		spoken[name] = true
	}
	if r.url == "" || r.nonce == "" || c.nonces[r.nonce] || r.identifier == "" || !c.delta && r.version == "" {
		return fmt.Errorf("%v has no type, version or control plane, or the nonce of another: %q", r, r.nonce)
	}
	c.nonces[r.nonce] = true
	return nil
}

func (c *client) receive() (*response, error) {
	r := &response{versions: map[string]string{}, bodies: map[string]proto.Message{}, aliases: map[string][]string{}, ttls: map[string]time.Duration{}}
	if !c.delta {
		m := &discoveryv3.DiscoveryResponse{}
		if err := c.stream.RecvMsg(m); err != nil {
			return nil, err
		}
		r.url, r.nonce, r.version, r.identifier = m.TypeUrl, m.Nonce, m.VersionInfo, m.ControlPlane.GetIdentifier()
		for _, a := range m.Resources {
			r.add("", a)
		}
		slices.Sort(r.names)
		return r, nil
	}
	m := &discoveryv3.DeltaDiscoveryResponse{}
	if err := c.stream.RecvMsg(m); err != nil {
		return nil, err
	}
	r.url, r.nonce, r.removed, r.identifier = m.TypeUrl, m.Nonce, m.RemovedResources, m.ControlPlane.GetIdentifier()
	for _, x := range m.Resources {
		if x.Resource == nil {
			r.names = append(r.names, x.Name)
		} else {
			r.add(x.Name, x.Resource)
		}
		if x.Ttl != nil {
			r.ttls[x.Name] = x.Ttl.AsDuration()
		}
		r.versions[x.Name], r.aliases[x.Name] = x.Version, x.Aliases
	}
	slices.Sort(r.names)
	return r, nil
}

// add takes one resource; without a name the one that its message gives.
func (r *response) add(name string, a *anypb.Any) {
	m, err := a.UnmarshalNew()
	if err != nil {
		panic(err)
	}
	if _, ok := m.(*discoveryv3.Resource); !ok && a.TypeUrl != r.url {
		panic("a " + a.TypeUrl + " in a response of " + r.url)
	}
	if w, ok := m.(*discoveryv3.Resource); ok {
		if w.Version == "" || w.Ttl == nil || w.Resource == nil {
			panic("a wrapper without a need")
		}
		r.ttls[w.Name] = w.Ttl.AsDuration()
		r.add(w.Name, w.Resource)
		return
	}
	if name == "" {
		switch m := m.(type) {
		case interface{ GetName() string }:
			name = m.GetName()
		case interface{ GetClusterName() string }:
			name = m.GetClusterName()
		}
	}
	r.names = append(r.names, name)
	r.bodies[name] = m
}

// next returns the next response; it fails the test when none comes.
func (c *client) next() *response {
	c.t.Helper()
	select {
	case r := <-c.got:
		return r
	case err := <-c.ended:
		c.ended <- err
		c.t.Fatalf("stream ended: %v", err)
	case <-time.After(patience):
		c.t.Fatal("no response")
	}
	return nil
}

// want takes the next response, compares it in the form "cluster a b -gone"
// and returns it.
func (c *client) want(text string) *response {
	c.t.Helper()
	r := c.next()
	if got := r.String(); got != strings.Join(strings.Fields(text), " ") {
		c.t.Fatalf("response %q, want %q", got, text)
	}
	return r
}

// accept is want with an ACK.
func (c *client) accept(text string) *response {
	c.t.Helper()
	r := c.want(text)
	c.ack(r)
	return r
}

// quiet fails the test when a response comes within a while.
func (c *client) quiet() {
	c.t.Helper()
	select {
	case r := <-c.got:
		c.t.Fatalf("unexpected response %q", r)
	case err := <-c.ended:
		c.ended <- err
		c.t.Fatalf("stream ended: %v", err)
	case <-time.After(60 * time.Millisecond):
	}
}

// ask subscribes: all the names in the state of the world, the added ones in
// delta.
func (c *client) ask(url string, names ...string) {
	c.t.Helper()
	if c.delta {
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: url, ResourceNamesSubscribe: names})
		return
	}
	c.send(&discoveryv3.DiscoveryRequest{TypeUrl: url, ResourceNames: names, VersionInfo: c.version[url]})
}

func (c *client) send(m proto.Message) {
	c.t.Helper()
	switch m := m.(type) {
	case *discoveryv3.DiscoveryRequest:
		m.Node = c.node
	case *discoveryv3.DeltaDiscoveryRequest:
		m.Node = c.node
	}
	c.node = nil
	check(c.t, c.stream.SendMsg(m))
}

func (c *client) ack(r *response, names ...string) {
	c.t.Helper()
	if c.delta {
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.url, ResponseNonce: r.nonce})
		return
	}
	if names == nil && r.url != fsm.TypeCluster && r.url != fsm.TypeListener {
		names = r.names
	}
	c.version[r.url] = r.version
	c.send(&discoveryv3.DiscoveryRequest{
		TypeUrl: r.url, ResponseNonce: r.nonce, VersionInfo: r.version, ResourceNames: names,
	})
}

func (c *client) nack(r *response, text string, names ...string) {
	c.t.Helper()
	detail := &statuspb.Status{Code: int32(codes.InvalidArgument), Message: text}
	if c.delta {
		c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.url, ResponseNonce: r.nonce, ErrorDetail: detail})
		return
	}
	c.send(&discoveryv3.DiscoveryRequest{
		TypeUrl: r.url, ResponseNonce: r.nonce, VersionInfo: c.version[r.url], ErrorDetail: detail, ResourceNames: names,
	})
}

// end returns how the stream ended.
func (c *client) end() error {
	c.t.Helper()
	select {
	case err := <-c.ended:
		c.ended <- err
		return err
	case <-time.After(patience):
		c.t.Fatal("stream goes on")
		return nil
	}
}
