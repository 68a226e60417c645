package xds

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// sink is the wire of a benchmark: it takes a response as gRPC does, and lets
// it fall.
type sink struct {
	wire
	parts mem.BufferSlice
}

func (s *sink) SendMsg(v any) (err error) {
	s.parts, err = s.codec.Marshal(v)
	return err
}

// herd is many streams of one fleet that has 100 services. All have everything
// and have acknowledged it.
type herd struct {
	b        *testing.B
	server   *Server
	protocol protocol
	state    *fsm.State
	list     []byte // encoded names of the services
	streams  []*stream
	boxes    []*inbox
	changes  uint32
}

func newHerd(b *testing.B, p protocol, streams int) *herd {
	h := &herd{b: b, server: New(Config{NodeID: "n"}, Deps{}), protocol: p, state: fsm.New()}
	var clusters []*fsmpb.Resource
	for i := range 100 {
		name := fmt.Sprintf("service-%04d", i)
		clusters = append(clusters, cluster(b, name, 1))
		h.list = appendString(h.list, stateNames, name)
		h.put(i)
	}
	h.do(&fsmpb.Command{Op: &fsmpb.Command_PutFleet{PutFleet: &fsmpb.PutFleet{Tenant: "default", Name: "web"}}})
	h.do(&fsmpb.Command{Op: &fsmpb.Command_ChangeFleet{ChangeFleet: &fsmpb.ChangeFleet{
		Tenant: "default", Fleet: "web", Mode: fsmpb.ChangeFleet_REPLACE, Upsert: clusters, Force: true,
	}}})
	h.server.hub.spread(work{state: h.state, all: true})
	for range streams {
		h.join()
	}
	return h
}

func (h *herd) do(c *fsmpb.Command) {
	h.state, _, _ = h.state.Apply(h.state.Index()+1, &fsmpb.Entry{Stamp: time.Now().UnixNano(), Commands: []*fsmpb.Command{c}})
}

func (h *herd) put(i int) liveKey {
	h.changes++
	name := fmt.Sprintf("service-%04d", i)
	body := marshal(h.b, assignment(name, h.changes))
	h.do(&fsmpb.Command{Op: &fsmpb.Command_PutEndpoints{PutEndpoints: &fsmpb.PutEndpoints{
		Tenant: "default", Service: name, Body: body, Hash: fsm.ResourceHash(body, nil, 0),
	}}})
	return liveKey{fsm.TypeEndpoints, "default", name}
}

// join adds a stream as a proxy would.
func (h *herd) join() {
	s := h.server
	st := &stream{
		server: s, rpc: &sink{wire: wire{codec: newCodec()}}, number: s.numbers.Add(1), protocol: h.protocol,
		id: Identity{"default", "web", "p"}, since: time.Now(),
	}
	s.hub.join(fleetKey{"default", "web"}, st)
	h.streams = append(h.streams, st)
	h.boxes = append(h.boxes, &inbox{server: s, stream: st, delta: h.protocol == delta})
	i := len(h.streams) - 1
	h.take(i, h.request(fsm.TypeCluster, nonce{}, nil))
	h.take(i, h.request(fsm.TypeCluster, st.types[0].outNonce, nil))
	h.take(i, h.request(fsm.TypeEndpoints, nonce{}, h.list))
	h.take(i, h.ack(i))
}

func (h *herd) leave() {
	last := len(h.streams) - 1
	h.streams[last].close()
	h.streams, h.boxes = h.streams[:last], h.boxes[:last]
}

func (h *herd) request(url string, n nonce, list []byte) []byte {
	var b []byte
	typeField, nonceField := protowire.Number(stateType), protowire.Number(stateNonce)
	if h.protocol == delta {
		typeField, nonceField = deltaType, deltaNonce
	} else if n.number != 0 {
		b = appendString(b, stateVersion, "0123456789abcdef01234567")
	}
	b = append(b, list...)
	b = appendString(b, typeField, url)
	if n.number != 0 {
		b = appendString(b, nonceField, string(n.append(nil)))
	}
	return b
}

// ack accepts the endpoints that are under way to a stream.
func (h *herd) ack(i int) []byte {
	list := h.list
	if h.protocol == delta {
		list = nil
	}
	return h.request(fsm.TypeEndpoints, h.streams[i].find(fsm.TypeEndpoints).outNonce, list)
}

// take is what the reader does with a request.
func (h *herd) take(i int, b []byte) {
	in := h.boxes[i]
	check(h.b, in.open().decode(b))
	now := time.Now()
	check(h.b, h.streams[i].handle(in.request, now))
	in.done()
	h.streams[i].pumpAt(now, true)
}

// spread sends one change to all streams.
func (h *herd) spread() {
	key := h.put(int(h.changes % 100))
	due, _ := h.server.hub.spread(work{state: h.state, live: map[liveKey]struct{}{key: {}}})
	for _, st := range due {
		st.pump(false)
	}
}

func (h *herd) acks() [][]byte {
	acks := make([][]byte, len(h.streams))
	for i := range acks {
		acks[i] = h.ack(i)
	}
	return acks
}

var herdSizes = []int{1, 1_000, 10_000}

// An operation is one acknowledgement.
func BenchmarkAck(b *testing.B) {
	herds(b, func(b *testing.B, h *herd) {
		for n := 0; n < b.N; {
			b.StopTimer()
			h.spread()
			acks := h.acks()
			b.StartTimer()
			for i := 0; i < len(acks) && n < b.N; i++ {
				h.take(i, acks[i])
				n++
			}
			b.StopTimer()
			for i, st := range h.streams {
				if st.find(fsm.TypeEndpoints).out != nil {
					h.take(i, acks[i])
				}
			}
		}
	})
}

// An operation is one response; the change is made and looked up for each
// fan-out.
func BenchmarkFanOut(b *testing.B) {
	herds(b, func(b *testing.B, h *herd) {
		for n := 0; n < b.N; n += len(h.streams) {
			h.spread()
			b.StopTimer()
			for i, ack := range h.acks() {
				h.take(i, ack)
			}
			b.StartTimer()
		}
	})
}

// An operation is a stream's whole life: it joins, is configured, and leaves.
func BenchmarkJoinLeave(b *testing.B) {
	herds(b, func(b *testing.B, h *herd) {
		for range b.N {
			h.join()
			h.leave()
		}
	})
}

func herds(b *testing.B, run func(*testing.B, *herd)) {
	for _, p := range []protocol{delta, stateOfTheWorld} {
		for _, n := range herdSizes {
			b.Run(fmt.Sprintf("%v/%d", p, n), func(b *testing.B) {
				h := newHerd(b, p, n)
				b.ReportAllocs()
				b.ResetTimer()
				run(b, h)
				b.StopTimer()
				for len(h.streams) > 0 {
					h.leave()
				}
			})
		}
	}
}

// BenchmarkChangeForManyGroups: one service changes, which a thousand sets of
// a thousand names have in common.
func BenchmarkChangeForManyGroups(b *testing.B) {
	s := New(Config{NodeID: "n"}, Deps{})
	st, index := fsm.New(), uint64(1)
	put := func(name string, port int) {
		body := marshal(b, assignment(name, uint32(port)))
		index++
		st, _, _ = st.Apply(index, &fsmpb.Entry{Commands: []*fsmpb.Command{{Op: &fsmpb.Command_PutEndpoints{PutEndpoints: &fsmpb.PutEndpoints{
			Tenant: "default", Service: name, Body: body, Hash: fsm.ResourceHash(body, nil, 0),
		}}}}})
	}
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprintf("service-%04d", i)
		put(names[i], 1)
	}
	s.hub.spread(work{state: st, all: true})
	for i := range 1000 {
		stream := &stream{server: s, id: Identity{"default", "web", "p"}}
		own := sortedSet(append(slices.Clone(names), fmt.Sprintf("zone-%04d", i)))
		s.hub.joinGroup(s.kinds.of(fsm.TypeEndpoints), s.subs.intern(false, own), stream)
	}
	b.ReportAllocs()
	for n := 2; b.Loop(); n++ {
		put(names[0], n)
		due, _ := s.hub.spread(work{state: st, live: map[liveKey]struct{}{{fsm.TypeEndpoints, "default", names[0]}: {}}})
		if len(due) != 1000 {
			b.Fatal(len(due))
		}
	}
}
