package main

import (
	"context"
	"encoding/json"
	"io"
	"slices"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/org/envoy-control-plane/fsm"
)

// rig is a server process's inside, with a proxy that decodes everything.
type rig struct {
	t       *testing.T
	p       protocol
	orders  *json.Encoder
	answers *json.Decoder
	stream  grpc.ClientStream
}

func newRig(t *testing.T, name string, o *options) *rig {
	b, err := newBackend(name, o)
	check(t, err)
	in, orders := io.Pipe()
	answers, out := io.Pipe()
	served := make(chan error, 1)
	go func() { served <- serveBackend(b, in, out) }()
	r := &rig{t: t, p: o.protocol, orders: json.NewEncoder(orders), answers: json.NewDecoder(answers)}
	address := r.answer().Address
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(func() {
		cancel()
		check(t, conn.Close())
		check(t, orders.Close())
		check(t, <-served)
	})
	r.stream, err = conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
		"/"+aggregatedService+"/"+o.protocol.method())
	check(t, err)
	return r
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) answer() answer {
	r.t.Helper()
	var a answer
	check(r.t, r.answers.Decode(&a))
	if a.Error != "" {
		r.t.Fatalf("the server says: %s", a.Error)
	}
	return a
}

func (r *rig) order(o order) answer {
	r.t.Helper()
	check(r.t, r.orders.Encode(o))
	return r.answer()
}

// reply is a response, whichever the protocol.
type reply struct {
	typeURL, nonce, version string
	resources               []*anypb.Any
}

// next sends a payload as proxies here do, if there is one, and returns the
// response that comes.
func (r *rig) next() *reply {
	r.t.Helper()
	if r.p == stateOfTheWorld {
		m := &discoveryv3.DiscoveryResponse{}
		check(r.t, r.stream.RecvMsg(m))
		return &reply{m.TypeUrl, m.Nonce, m.VersionInfo, m.Resources}
	}
	m := &discoveryv3.DeltaDiscoveryResponse{}
	check(r.t, r.stream.RecvMsg(m))
	a := &reply{typeURL: m.TypeUrl, nonce: m.Nonce, version: m.SystemVersionInfo}
	for _, x := range m.Resources {
		a.resources = append(a.resources, x.Resource)
	}
	return a
}

// send sends what this package's proxies would; it must decode.
func (r *rig) send(p payload) {
	r.t.Helper()
	var m proto.Message = &discoveryv3.DiscoveryRequest{}
	if r.p == delta {
		m = &discoveryv3.DeltaDiscoveryRequest{}
	}
	check(r.t, proto.Unmarshal(slices.Concat(p...), m))
	if len(m.ProtoReflect().GetUnknown()) > 0 {
		r.t.Fatalf("the request has unknown fields: %v", m)
	}
	check(r.t, r.stream.SendMsg(m))
}

func (r *rig) ack(a *reply, names []byte) {
	r.t.Helper()
	r.send(r.p.ack(&response{typeURL: a.typeURL, nonce: a.nonce, version: a.version}, names))
}

// TestServersServeTheSame holds the content of all servers against the scene.
func TestServersServeTheSame(t *testing.T) {
	for _, name := range serverNames() {
		for _, p := range []protocol{delta, stateOfTheWorld} {
			t.Run(name+" "+string(p), func(t *testing.T) {
				want := newScene(2, 3, 2) // of which this proxy has the second fleet
				r := newRig(t, name, &options{protocol: p, fleets: 2, clusters: 3, endpoints: 2})
				names := p.encodeNames(want.names(1))

				r.send(p.subscribe(fsm.TypeCluster, p.node("proxy-1", fleetName(1))))
				a := r.next()
				wantResources(t, a, fsm.TypeCluster, want.cluster(3), want.cluster(4), want.cluster(5))
				r.ack(a, nil)

				r.send(p.subscribe(fsm.TypeEndpoints, names))
				a = r.next()
				wantResources(t, a, fsm.TypeEndpoints, want.assignment(3), want.assignment(4), want.assignment(5))
				r.ack(a, names)

				want.change(6) // the other fleet's
				r.order(order{Do: "change", Change: 6})
				want.change(9)
				r.order(order{Do: "change", Change: 9})
				a = r.next()
				if name == "b1" && p == stateOfTheWorld { // it sends the whole type
					wantResources(t, a, fsm.TypeEndpoints, want.assignment(3), want.assignment(4), want.assignment(5))
				} else {
					wantResources(t, a, fsm.TypeEndpoints, want.assignment(4))
				}
				r.ack(a, names)
				for r.order(order{Do: "acks"}).Acks != 3 {
					time.Sleep(time.Millisecond)
				}
			})
		}
	}
}

func wantResources(t *testing.T, a *reply, typeURL string, want ...proto.Message) {
	t.Helper()
	if a.typeURL != typeURL || len(a.resources) != len(want) {
		t.Fatalf("response of %s with %d resources, want %s with %d", a.typeURL, len(a.resources), typeURL, len(want))
	}
	var got []proto.Message
	for _, x := range a.resources {
		m, err := x.UnmarshalNew()
		check(t, err)
		got = append(got, m)
	}
	slices.SortFunc(got, func(a, b proto.Message) int { return compareText(a, b) })
	slices.SortFunc(want, func(a, b proto.Message) int { return compareText(a, b) })
	for i := range want {
		if !proto.Equal(got[i], want[i]) {
			t.Errorf("resource %v, want %v", got[i], want[i])
		}
	}
}

func compareText(a, b proto.Message) int {
	one, _ := encode(a)
	other, _ := encode(b)
	return slices.Compare(one, other)
}

func TestDecodeResponse(t *testing.T) {
	s := newScene(1, 2, 2)
	s.change(5)
	assignment, err := anypb.New(s.assignment(1))
	check(t, err)
	b, err := encode(&discoveryv3.DeltaDiscoveryResponse{
		SystemVersionInfo: "v", TypeUrl: fsm.TypeEndpoints, Nonce: "n", ControlPlane: &corev3.ControlPlane{Identifier: "x"},
		Resources: []*discoveryv3.Resource{{Name: clusterName(1), Resource: assignment}},
	})
	check(t, err)
	for n, found := range map[int]bool{4: false, 5: true} {
		w := &wave{marker: []byte(marker(n))}
		r := &response{wanted: func() *wave { return w }}
		check(t, r.decode(b))
		if r.typeURL != fsm.TypeEndpoints || r.nonce != "n" || r.version != "v" || (r.got == w) != found {
			t.Errorf("change %d: decoded %+v", n, r)
		}
	}
	r := &response{wanted: func() *wave { return nil }}
	if err := r.decode(b[:len(b)-1]); err == nil {
		t.Error("half a response was taken for one")
	}
}

// TestMarkers holds that no change is taken for another.
func TestMarkers(t *testing.T) {
	seen := map[string]bool{}
	for n := range maxChanges {
		m := marker(n)
		if seen[m] || len(m) != len(marker(0)) {
			t.Fatalf("marker %q of change %d", m, n)
		}
		seen[m] = true
	}
	s := newScene(1, 1, 250)
	s.change(1)
	hosts := s.assignment(0).Endpoints[0].LbEndpoints
	if first := hosts[0].HostIdentifier.(*endpointv3.LbEndpoint_Endpoint); first.Endpoint.Address.GetSocketAddress().Address != marker(1) {
		t.Errorf("the changed endpoint is %v", first)
	}
}

func TestStatistics(t *testing.T) {
	samples := []sample{{updates: 4}, {updates: 1}, {updates: 3}, {updates: 9}}
	of := func(s sample) float64 { return float64(s.updates) }
	if f := median("", "", samples, of); f.Value != 3.5 || !slices.Equal(f.Rounds, []float64{4, 1, 3, 9}) {
		t.Errorf("median of four: %+v", f)
	}
	if f := median("", "", samples[:3], of); f.Value != 3 {
		t.Errorf("median of three: %+v", f)
	}
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64(i+1))
	}
	for q, want := range map[float64]float64{0: 1, 0.5: 50, 0.99: 99, 1: 100} {
		if got := quantile(hundred, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if got := quantile([]float64{7}, 0.99); got != 7 {
		t.Errorf("quantile of one value is %v", got)
	}
}
