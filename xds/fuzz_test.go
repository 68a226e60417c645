package xds

import (
	"context"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// wire is a stream that takes what is sent as bytes.
type wire struct {
	codec codec
	sent  [][]byte
}

func (w *wire) SendMsg(v any) error {
	s, err := w.codec.Marshal(v)
	if err == nil {
		w.sent = append(w.sent, s.Materialize())
	}
	return err
}
func (w *wire) Context() context.Context     { return context.Background() }
func (w *wire) RecvMsg(any) error            { return context.Canceled }
func (w *wire) SetHeader(metadata.MD) error  { return nil }
func (w *wire) SendHeader(metadata.MD) error { return nil }
func (w *wire) SetTrailer(metadata.MD)       {}

var _ grpc.ServerStream = (*wire)(nil)

// offline is a server without a connection, on a state with some content.
func offline(t testing.TB) (*Server, *fsm.State) {
	s := New(Config{NodeID: "n", MaxNames: 1000}, Deps{})
	st := fsm.New()
	for _, c := range []*fsmpb.Command{
		{Op: &fsmpb.Command_PutFleet{PutFleet: &fsmpb.PutFleet{Tenant: "default", Name: "web"}}},
		{Op: &fsmpb.Command_ChangeFleet{ChangeFleet: &fsmpb.ChangeFleet{Tenant: "default", Fleet: "web", Upsert: []*fsmpb.Resource{
			cluster(t, "a", 1), living(cluster(t, "b", 1), minBeat), listener(t, "l", 80), route(t, "r", "a"),
			virtualHost(t, "r", "web", "a.com", "*.a.com"), virtualHost(t, "r", "rest", "*"),
		}}}},
	} {
		next, _, _ := st.Apply(st.Index()+1, &fsmpb.Entry{Commands: []*fsmpb.Command{c}})
		st = next
	}
	s.hub.spread(work{state: st, all: true})
	return s, st
}

// FuzzRequests takes a sequence of requests as they come off the wire (each
// behind two bytes of length) on one stream, with changes in between. Whatever
// comes, every response decodes, at most one of a type is under way, and
// nothing is left when the stream ends.
func FuzzRequests(f *testing.F) {
	state, changes := requests(f)
	var all [2][]byte
	add := func(i int, m proto.Message) {
		b := marshal(f, m)
		all[i] = append(binary.BigEndian.AppendUint16(all[i], uint16(len(b))), b...)
		f.Add(i == 1, all[i])
	}
	for _, m := range state {
		add(0, m)
	}
	for _, names := range [][]string{{"r/a.com"}, {"r/b.a.com", "r/web", "r/c.x"}, {"*", "q/a.com"}} {
		changes = append(changes, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: fsm.TypeVirtualHost, ResourceNamesSubscribe: names})
	}
	changes = append(changes, &discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: fsm.TypeVirtualHost, ResourceNamesUnsubscribe: []string{"*", "r/web", "r/a.com"},
	})
	for _, m := range changes {
		add(1, m)
	}
	f.Fuzz(func(t *testing.T, isDelta bool, input []byte) {
		s, st := offline(t)
		w := &wire{codec: newCodec()}
		p := stateOfTheWorld
		if isDelta {
			p = delta
		}
		stream := &stream{server: s, rpc: w, number: 1, protocol: p, id: Identity{"default", "web", "p"}, since: time.Now(), ttl: true}
		s.hub.join(fleetKey{"default", "web"}, stream)
		for n := 1; len(input) >= 2; n++ {
			size := min(int(binary.BigEndian.Uint16(input)), len(input)-2)
			in := &inbox{server: s, stream: stream, delta: isDelta}
			err := in.open().decode(input[2 : 2+size])
			if err == nil {
				err = stream.handle(in.request, time.Now())
			}
			in.done()
			if err != nil {
				break
			}
			input = input[2+size:]
			stream.pump(true)
			stream.ackNewest(t, n)
			st = change(t, s, st, n)
			stream.pump(true)
		}
		stream.checkSent(t, w)
		stream.close()
		if s.subs.len()+len(s.subs.byList)+len(s.hub.groups)+len(s.hub.scopes)+len(s.hub.byName)+len(s.beats.of) != 0 {
			t.Fatal("something is left of the stream")
		}
	})
}

// change makes the n-th change to what the stream may have asked for.
func change(t *testing.T, s *Server, st *fsm.State, n int) *fsm.State {
	c := &fsmpb.Command{Op: &fsmpb.Command_ChangeFleet{ChangeFleet: &fsmpb.ChangeFleet{
		Tenant: "default", Fleet: "web", Mode: fsmpb.ChangeFleet_REPLACE, Force: true,
		Upsert: []*fsmpb.Resource{
			cluster(t, string(rune('a'+n%3)), n), listener(t, "l", 80+n%2), living(route(t, "r", "a"), minBeat),
			virtualHost(t, "r", "web", "a.com", string(rune('a'+n%2))+".*"),
		},
	}}}
	next, _, _ := st.Apply(st.Index()+1, &fsmpb.Entry{Commands: []*fsmpb.Command{c}})
	s.hub.spread(work{state: next, fleets: map[fleetKey]struct{}{{"default", "web"}: {}}})
	return next
}

// ackNewest answers what is under way, every third time with a NACK.
func (st *stream) ackNewest(t *testing.T, n int) {
	for _, sub := range st.types {
		if sub.out == nil {
			continue
		}
		r := &request{
			delta: st.protocol == delta, typeURL: sub.kind.url, names: sub.sub.names,
			nonce: sub.outNonce, rejected: n%3 == 0, rejectText: "no",
		}
		check(t, st.handle(r, time.Now()))
	}
	st.pump(true)
}

func (st *stream) checkSent(t *testing.T, w *wire) {
	for _, b := range w.sent {
		var m proto.Message = &discoveryv3.DiscoveryResponse{}
		if st.protocol == delta {
			m = &discoveryv3.DeltaDiscoveryResponse{}
		}
		if err := proto.Unmarshal(b, m); err != nil {
			t.Fatalf("a response does not decode: %v", err)
		}
		d, ok := m.(*discoveryv3.DeltaDiscoveryResponse)
		if !ok {
			continue
		}
		names := slices.Clone(d.RemovedResources)
		for _, r := range d.Resources {
			names = append(names, r.Name)
		}
		if n := len(names); len(sortedSet(names)) != n {
			t.Fatalf("a response speaks twice of one name: %v", d)
		}
	}
}

// FuzzDecode compares the hand-written decoder to protobuf's.
func FuzzDecode(f *testing.F) {
	state, changes := requests(f)
	for _, m := range state {
		f.Add(marshal(f, m))
	}
	for _, m := range changes {
		f.Add(marshal(f, m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		compareState(t, b)
		compareDelta(t, b)
	})
}
