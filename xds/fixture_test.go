package xds

import (
	"context"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const nodeStart = 1_000

// patience is how long a test waits for what must come, on a slow machine too.
const patience = 30 * time.Second

// fixture is a server on a state that commands change right away.
type fixture struct {
	t        testing.TB
	server   *Server
	registry *prometheus.Registry
	conn     *grpc.ClientConn
	door     *door
	address  string
	meters   meters

	mu        sync.Mutex
	state     *fsm.State
	down      bool // Propose fails
	unknown   int  // so many proposals apply and answer an error
	proposals int
	apply     bool // tell the server
}

func newFixture(t testing.TB, change ...func(*Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, state: fsm.New(), registry: prometheus.NewRegistry(), apply: true}
	config := Config{NodeID: "node-1", NodeStart: nodeStart, ReportInterval: 10 * time.Millisecond, ProxyGrace: -1}
	for _, c := range change {
		c(&config)
	}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("XDS_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	f.server = New(config, Deps{Log: log, Registry: f.registry, Cluster: f, Secrets: f, Metrics: &f.meters})
	f.server.Applied(f.state, nil)
	f.server.conns.after = 500 * time.Millisecond // how a stream ends is told on a busy machine too

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.server.Run(ctx) }()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	f.address = listener.Addr().String()
	creds := f.server.Credentials(insecure.NewCredentials())
	f.door, _ = creds.(*door)
	g := grpc.NewServer(append(f.server.ServerOptions(), grpc.Creds(creds))...)
	f.server.Register(g)
	served := make(chan error, 1)
	go func() { served <- g.Serve(f.server.Listener(listener)) }()
	f.conn = f.dial()
	t.Cleanup(func() {
		g.Stop()
		check(t, <-served)
		cancel()
		check(t, <-done)
		if n := f.server.Streams(); n != 0 {
			t.Errorf("%d streams left open", n)
		}
		if n := len(f.server.measuring) + f.meters.len(); n != 0 {
			t.Errorf("%d streams of metrics left open", n)
		}
		if n := f.server.subs.len() + len(f.server.subs.byList); n != 0 {
			t.Errorf("%d subscriptions left", n)
		}
		if n := len(f.server.hub.groups) + len(f.server.hub.scopes) + len(f.server.hub.byName); n != 0 {
			t.Errorf("%d groups and scopes left", n)
		}
		if n := len(f.server.beats.of) + len(f.server.beats.due); n != 0 {
			t.Errorf("%d heartbeats left", n)
		}
	})
	return f
}

func (f *fixture) dial() *grpc.ClientConn {
	conn, err := grpc.NewClient(f.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	check(f.t, err)
	f.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Propose implements Proposer.
func (f *fixture) Propose(_ context.Context, c *fsmpb.Command) (*fsmpb.Result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.proposals++
	if f.down {
		return nil, fsm.Refusal(fsm.CodeNoLeader, "test")
	}
	r := f.applyLocked(c)
	if f.unknown > 0 {
		f.unknown--
		return nil, fsm.Refusal(fsm.CodeOutcomeUnknown, "test")
	}
	return r, nil
}

func (f *fixture) applyLocked(c *fsmpb.Command) *fsmpb.Result {
	next, results, events := f.state.Apply(f.state.Index()+1, &fsmpb.Entry{
		Stamp: time.Now().UnixNano(), Commands: []*fsmpb.Command{c},
	})
	f.state = next
	if f.apply {
		if events == nil {
			events = []*fsmpb.Event{}
		}
		f.server.Applied(next, events)
	}
	return results[0]
}

func (f *fixture) do(c *fsmpb.Command) *fsmpb.Result {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.applyLocked(c)
	if err := fsm.ResultError(r); err != nil {
		f.t.Fatalf("command refused: %v", err)
	}
	return r
}

func (f *fixture) current() *fsm.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

func (f *fixture) tenant(name string) {
	f.do(&fsmpb.Command{Op: &fsmpb.Command_PutTenant{PutTenant: &fsmpb.PutTenant{Name: name}}})
}

func (f *fixture) fleet(tenant, name string) {
	f.do(&fsmpb.Command{Op: &fsmpb.Command_PutFleet{PutFleet: &fsmpb.PutFleet{Tenant: tenant, Name: name}}})
}

func (f *fixture) deleteFleet(tenant, name string) {
	f.do(&fsmpb.Command{Op: &fsmpb.Command_DeleteFleet{DeleteFleet: &fsmpb.DeleteFleet{Tenant: tenant, Name: name, Force: true}}})
}

// replace makes a revision of fleet web of exactly these resources.
func (f *fixture) replace(resources ...*fsmpb.Resource) uint64 {
	f.t.Helper()
	return f.replaceIn("default", "web", resources...)
}

func (f *fixture) replaceIn(tenant, fleet string, resources ...*fsmpb.Resource) uint64 {
	f.t.Helper()
	if _, ok := f.current().Fleet(tenant, fleet); !ok {
		f.fleet(tenant, fleet)
	}
	return f.do(&fsmpb.Command{Op: &fsmpb.Command_ChangeFleet{ChangeFleet: &fsmpb.ChangeFleet{
		Tenant: tenant, Fleet: fleet, Mode: fsmpb.ChangeFleet_REPLACE, Upsert: resources, Force: true,
	}}}).Revision
}

func (f *fixture) endpoints(service string, port uint32) {
	f.t.Helper()
	f.endpointsIn("default", service, port)
}

func (f *fixture) endpointsIn(tenant, service string, port uint32) {
	f.t.Helper()
	body := marshal(f.t, assignment(service, port))
	f.do(&fsmpb.Command{Op: &fsmpb.Command_PutEndpoints{PutEndpoints: &fsmpb.PutEndpoints{
		Tenant: tenant, Service: service, Body: body, Hash: fsm.ResourceHash(body, nil, 0),
	}}})
}

func (f *fixture) deleteEndpoints(service string) {
	f.t.Helper()
	f.do(&fsmpb.Command{Op: &fsmpb.Command_DeleteEndpoints{DeleteEndpoints: &fsmpb.DeleteEndpoints{
		Tenant: "default", Service: service,
	}}})
}

func assignment(service string, port uint32) *endpointv3.ClusterLoadAssignment {
	return &endpointv3.ClusterLoadAssignment{
		ClusterName: service,
		Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address(port)}},
		}}}},
	}
}

func address(port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

// cluster is an EDS cluster whose service has its name; timeout tells
// versions of it apart.
func cluster(t testing.TB, name string, timeout int) *fsmpb.Resource {
	r := resource(t, fsm.TypeCluster, name, &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		ConnectTimeout:       durationpb.New(time.Duration(timeout) * time.Second),
	})
	r.References = []*fsmpb.Reference{{Kind: fsmpb.Reference_ENDPOINTS, Name: name}}
	return r
}

func listener(t testing.TB, name string, port int) *fsmpb.Resource {
	r := resource(t, fsm.TypeListener, name, &listenerv3.Listener{Name: name, Address: address(uint32(port))})
	r.Binds = []string{"tcp/127.0.0.1:" + strconv.Itoa(port)}
	return r
}

func route(t testing.TB, name, cluster string) *fsmpb.Resource {
	return resource(t, fsm.TypeRoute, name, &routev3.RouteConfiguration{
		Name: name, VirtualHosts: []*routev3.VirtualHost{{Name: cluster, Domains: []string{"*"}}},
	})
}

func resource(t testing.TB, url, name string, m proto.Message) *fsmpb.Resource {
	body := marshal(t, m)
	return &fsmpb.Resource{TypeUrl: url, Name: name, Body: body, Hash: fsm.ResourceHash(body, nil, 0)}
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	check(t, err)
	return b
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatalf("never came true: %s", what)
}
