package xds

import (
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm"
)

// fuzzStreams are the streams of FuzzStreams: both protocols, aggregated and
// of a single service, of two proxies.
var fuzzStreams = []struct {
	protocol protocol
	only     string
	proxy    string
}{
	{stateOfTheWorld, "", "p"}, {delta, "", "p"}, {delta, "", "q"}, {stateOfTheWorld, fsm.TypeEndpoints, "p"}, {delta, fsm.TypeCluster, "q"},
}

// FuzzStreams takes what happens on several streams at once: bytes of an
// operation each. The low bits say which stream, the others what: a request out
// of a small set, an answer, a change, the end of the stream. Whatever comes, all
// responses decode, and nothing is left at the end.
func FuzzStreams(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 250, 8, 9, 10, 251, 252})
	f.Add([]byte{0, 8, 16, 24, 32, 40, 48, 240, 248, 0, 8, 255})
	f.Add([]byte{1, 9, 17, 25, 33, 41, 49, 57, 65, 73, 241, 249, 1, 9, 17, 255, 241, 241})
	f.Add([]byte{2, 26, 248, 18, 242, 34, 42, 250, 2, 10, 242, 248, 242})
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) > 200 {
			return // longer ones find nothing that these do not
		}
		s, st := offline(t)
		streams := make([]*stream, len(fuzzStreams))
		wires := make([]*wire, len(fuzzStreams))
		for n, op := range input {
			i := int(op%8) % len(streams)
			if streams[i] == nil {
				wires[i] = &wire{codec: newCodec()}
				streams[i] = s.fuzzStream(i, uint64(n+1), wires[i])
			}
			switch code := int(op / 8); code {
			case 31:
				st = change(t, s, st, n)
				for _, other := range streams {
					if other != nil {
						other.pump(true)
					}
				}
			case 30:
				streams[i].ackNewest(t, n)
			case 29:
				streams[i].checkSent(t, wires[i])
				streams[i].close()
				streams[i] = nil
			default:
				streams[i].fuzzRequest(t, code)
			}
		}
		for i, stream := range streams {
			if stream != nil {
				stream.checkSent(t, wires[i])
				stream.close()
			}
		}
		if s.subs.len()+len(s.subs.byList)+len(s.hub.groups)+len(s.hub.scopes)+len(s.hub.byName)+len(s.beats.of) != 0 {
			t.Fatal("something is left of the streams")
		}
	})
}

func (s *Server) fuzzStream(i int, number uint64, w *wire) *stream {
	of := fuzzStreams[i]
	st := &stream{
		server: s, rpc: w, number: number, protocol: of.protocol, id: Identity{"default", "web", of.proxy}, since: time.Now(), ttl: i%2 == 1,
	}
	if of.only != "" {
		st.only = s.kinds.of(of.only)
	}
	s.hub.join(fleetKey{"default", "web"}, st)
	return st
}

// fuzzRequest sends one of the requests that a code stands for: a type, and
// what of a few names.
func (st *stream) fuzzRequest(t *testing.T, code int) {
	url := []string{fsm.TypeCluster, fsm.TypeEndpoints, fsm.TypeRoute, fsm.TypeVirtualHost}[code%4]
	if st.only != nil {
		url = st.only.url
	}
	names := [][]string{nil, {"*"}, {"a"}, {"b", "r/a.com"}, {"r", "*"}, {"a", "b", "c"}, {"r/web", "r/b.a.com"}}[code/4%7]
	var m proto.Message = &discoveryv3.DiscoveryRequest{TypeUrl: url, ResourceNames: names, ResponseNonce: "1.1"}
	if st.protocol == delta {
		d := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: url, ResourceNamesSubscribe: names}
		if st.find(url) == nil && code%3 == 0 {
			d.InitialResourceVersions = map[string]string{"a": "1-0000000000000001", "gone": "v"}
		} else if code%3 == 1 {
			d.ResourceNamesSubscribe, d.ResourceNamesUnsubscribe = nil, names
		}
		m = d
	}
	in := &inbox{server: st.server, stream: st, delta: st.protocol == delta}
	check(t, in.open().decode(marshal(t, m)))
	check(t, st.handle(in.request, time.Now()))
	in.done()
	st.pump(true)
}
