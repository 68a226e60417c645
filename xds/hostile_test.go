package xds

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/org/envoy-control-plane/fsm"
)

// victim is a proxy like any other, next to a hostile one.
type victim struct {
	*client
	f    *fixture
	port uint32
}

func (f *fixture) victim() *victim {
	f.replace(cluster(f.t, "a", 1), listener(f.t, "l", 80), route(f.t, "r", "a"))
	f.endpoints("a", 1)
	v := &victim{client: f.connectOn(f.dial(), adsDelta, node("victim", "web", "")), f: f, port: 1}
	v.subscribeAll([]string{"a"}, []string{"r"})
	return v
}

// unharmed fails the test unless changes still reach the victim.
func (v *victim) unharmed() {
	v.t.Helper()
	for range 5 {
		v.port++
		v.f.endpoints("a", v.port)
		v.accept("endpoints a")
	}
}

// heap returns the bytes that are live.
func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// bounded fails the test when more than so many bytes stay live. The client
// side of a test is in them.
func bounded(t *testing.T, before, most int) {
	t.Helper()
	if got := heap() - before; got > most {
		t.Fatalf("%d KiB stay, want at most %d", got>>10, most>>10)
	}
}

// Every field of a node that is kept is bounded, and what is not text does not
// become part of a command.
func TestNodesWithTooMuch(t *testing.T) {
	huge := strings.Repeat("ä", 100_000)
	n := node("p1", "web", "")
	n.UserAgentName = "x" + huge // cut in the middle of a letter
	n.UserAgentVersionType = &corev3.Node_UserAgentVersion{UserAgentVersion: "xy" + huge}
	n.Locality = &corev3.Locality{Region: "x" + huge, Zone: huge, SubZone: huge}
	labels := map[string]*structpb.Value{"long": structpb.NewStringValue(huge), huge: structpb.NewStringValue("x"), "number": structpb.NewNumberValue(1)}
	for i := range 1000 {
		labels[sprintf("l%d", i)] = structpb.NewStringValue("x")
	}
	n.Metadata = &structpb.Struct{Fields: map[string]*structpb.Value{"labels": structpb.NewStructValue(&structpb.Struct{Fields: labels})}}
	f := newFixture(t)
	c := f.connectAs(adsDelta, n)
	c.ask(fsm.TypeCluster)
	if err := c.end(); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "1048576") {
		t.Fatalf("a node of more than 1 MiB: ended with %v", err)
	}
	n.Locality.SubZone, n.Locality.Zone = "", strings.Repeat("z", 300)
	c = f.connectAs(adsDelta, n)
	c.ask(fsm.TypeCluster)
	eventually(t, "registered", func() bool { return f.streamsOf("p1") == 1 })
	p := f.proxy("p1")
	if len(p.Build) > 2*maxLabelBytes+1 || len(p.Locality.Region) > maxLabelBytes || len(p.Locality.Zone) > maxLabelBytes || len(p.Labels) > maxLabels {
		t.Fatalf("%d %d %d %d", len(p.Build), len(p.Locality.Region), len(p.Locality.Zone), len(p.Labels))
	}
	marshal(t, p) // would fail if it were no UTF-8
}

// Bytes that are no request end the stream with a status that says so.
func TestBytesThatAreNoRequest(t *testing.T) {
	f := newFixture(t)
	v := f.victim()
	for name, b := range map[string][]byte{
		"noise":          bytes.Repeat([]byte{0xff}, 100),
		"large noise":    bytes.Repeat([]byte{0xff}, largeRequest+1),
		"a type in 0xff": {4<<3 | 2, 1, 0xff},
		"a node of junk": {2<<3 | 2, 3, 0xff, 0xff, 0xff, 1<<3 | 2, 3, 0xff, 0xff, 0xff},
		"deep metadata":  nil,
	} {
		for node, method := range map[byte]string{stateNode: adsState, deltaNode: adsDelta} {
			if name == "deep metadata" {
				b = deepMetadata(node)
			}
			ctx, cancel := context.WithCancel(context.Background())
			s, err := f.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method, grpc.ForceCodec(raw{}))
			check(t, err)
			check(t, s.SendMsg(b))
			if err := s.RecvMsg(&b); status.Code(err) != codes.InvalidArgument {
				t.Errorf("%s: ended with %v", name, err)
			}
			cancel()
		}
	}
	v.unharmed()
}

// raw is a codec of bytes.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error)   { return v.([]byte), nil }
func (raw) Unmarshal(b []byte, v any) error { *v.(*[]byte) = b; return nil }
func (raw) Name() string                    { return "raw" }

// deepMetadata is a request with a node whose metadata nests 12,000 messages.
func deepMetadata(node byte) []byte {
	var b []byte
	for range 4_000 { // Value.struct_value of Struct.fields' value
		for _, field := range []byte{5, 1, 2} {
			b = append(binary.AppendUvarint([]byte{field<<3 | 2}, uint64(len(b))), b...)
		}
	}
	for _, field := range []byte{1, 3, node} { // Struct.fields, Node.metadata
		b = append(binary.AppendUvarint([]byte{field<<3 | 2}, uint64(len(b))), b...)
	}
	return b
}

func (r *response) speaksOf() int { return len(r.names) + len(r.removed) }

// As many names as are allowed are answered, and leave with their stream.
func TestAHundredThousandNames(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		v := f.victim()
		names := manyNames(100_000)
		before := heap()
		c := f.connect(method)
		c.ask(fsm.TypeEndpoints, names...)
		if n := c.next().speaksOf(); n != 100_000 {
			t.Fatalf("%d names answered", n)
		}
		v.unharmed()
		bounded(t, before, 256<<20)
		c.close()
		eventually(t, "gone", func() bool { return f.server.Streams() == 1 })
		v.unharmed()
		bounded(t, before, 48<<20)
		runtime.KeepAlive(names)
	})
}

// So many versions that a proxy names of what is not there.
func TestAHundredThousandVersions(t *testing.T) {
	f := newFixture(t)
	v := f.victim()
	have := map[string]string{}
	for _, name := range manyNames(100_000) {
		have[name] = "1-0000000000000001"
	}
	before := heap()
	c := f.connect(adsDelta)
	c.resume(fsm.TypeCluster, have)
	c.resume(fsm.TypeListener, nil)
	c.resume(fsm.TypeRoute, nil, "r")
	c.accept("cluster a")
	c.accept("listener l")
	c.accept("route r")
	if r := c.next(); len(r.removed) != 100_000 {
		t.Fatalf("%d names removed", len(r.removed))
	} else {
		c.ack(r)
	}
	v.unharmed()
	bounded(t, before, 128<<20)
	have["one more"] = "1-0000000000000001"
	d := f.connect(adsDelta)
	d.resume(fsm.TypeCluster, have)
	if err := d.end(); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "100000") {
		t.Fatalf("ended with %v", err)
	}
}

// flood sends what next makes without reading an answer's meaning, until it
// has sent so many or its stream ends.
func (c *client) flood(n int, next func(i int)) {
	for i := range n {
		next(i)
		for len(c.got) > 0 {
			c.ack(<-c.got)
		}
	}
}

// Subscriptions that change without end leave nothing behind.
func TestAFloodOfSubscriptions(t *testing.T) {
	f := newFixture(t)
	v := f.victim()
	names := manyNames(300)
	before := heap()
	c := f.connect(adsDelta)
	for _, url := range []string{fsm.TypeEndpoints, fsm.TypeRoute, fsm.TypeVirtualHost, fsm.TypeCluster} {
		c.flood(3000, func(i int) {
			name := names[i%len(names)] + sprintf("%d", i)
			c.send(&discoveryv3.DeltaDiscoveryRequest{
				TypeUrl: url, ResourceNamesSubscribe: []string{name, "*"}, ResourceNamesUnsubscribe: []string{"*", names[0] + "0"},
			})
			c.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: url, ResourceNamesUnsubscribe: []string{name}})
		})
		v.unharmed()
	}
	if n := f.server.subs.len(); n > 20 {
		t.Errorf("%d subscriptions are held", n)
	}
	bounded(t, before, 32<<20)

	d := f.connect(adsState)
	d.flood(3000, func(i int) {
		d.send(&discoveryv3.DiscoveryRequest{TypeUrl: fsm.TypeEndpoints, ResourceNames: []string{"a", sprintf("%d", i)}, ResponseNonce: "x.1"})
	})
	v.unharmed()
	bounded(t, before, 32<<20)
}

// Rejections without end are written down at a pace.
func TestAFloodOfRejections(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		v := f.victim()
		c := f.connect(method)
		text := strings.Repeat("no ", maxRejectText)
		c.ask(fsm.TypeRoute, "r")
		began := time.Now()
		const n = 300
		for range n {
			r := c.next()
			c.nack(r, text, "r")
			if c.delta {
				c.ask(fsm.TypeRoute, "r") // asks for another attempt
				continue
			}
			f.replace(cluster(t, "a", 1), listener(t, "l", 80), route(t, "r", sprintf("%v", r.nonce)))
			v.accept("route r")
		}
		v.unharmed()
		eventually(t, "written down", func() bool { return f.server.reporter.idle() })
		most := paceBurst + int(time.Since(began)/paceInterval) + 2
		written := 0
		for e := range f.current().Events(0) {
			if x := e.GetProxyRejected(); x != nil {
				written++
				if len(x.Rejection.Detail) != maxRejectText {
					t.Fatalf("a text of %d bytes", len(x.Rejection.Detail))
				}
			}
		}
		if written > most || written < paceBurst {
			t.Fatalf("%d of %d rejections are written down, want %d at most", written, n, most)
		}
	})
}

// A message that never ends holds what came of it, and only for a while.
func TestAHalfSentMessage(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.HelloTimeout = time.Second })
	v := f.victim()
	before := heap()
	client := &http.Client{Transport: &http.Transport{Protocols: unencrypted()}}
	defer client.CloseIdleConnections()
	body, w := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+f.address+adsState, body)
	check(t, err)
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	go func() {
		_, _ = w.Write(binary.BigEndian.AppendUint32([]byte{0}, 64<<20))
		_, _ = w.Write(make([]byte, 1<<20)) // and no more
	}()
	response, err := client.Do(req)
	check(t, err)
	defer func() { _ = response.Body.Close() }()
	v.unharmed()
	bounded(t, before, 16<<20)
	_, err = io.Copy(io.Discard, response.Body)
	check(t, err)
	if got := response.Trailer.Get("Grpc-Status") + response.Header.Get("Grpc-Status"); got != sprintf("%d", codes.DeadlineExceeded) {
		t.Fatalf("ended with %q", got)
	}
	v.unharmed()
}

func unencrypted() *http.Protocols {
	p := &http.Protocols{}
	p.SetUnencryptedHTTP2(true)
	return p
}

// Of thousands of streams on one connection so many are open as are allowed;
// the others wait in the client.
func TestThousandsOfStreamsOnOneConnection(t *testing.T) {
	f := newFixture(t)
	v := f.victim()
	before := heap()
	conn := f.dial()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan struct{})
	const streams = 3 * streamsPerConn
	for i := range streams {
		go func() {
			defer func() { ended <- struct{}{} }()
			s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, adsDelta)
			if err != nil {
				return
			}
			_ = s.SendMsg(&discoveryv3.DeltaDiscoveryRequest{Node: node(sprintf("p%d", i), "web", ""), TypeUrl: fsm.TypeCluster})
			for s.RecvMsg(&discoveryv3.DeltaDiscoveryResponse{}) == nil {
			}
		}()
	}
	eventually(t, "as many as are allowed", func() bool { return f.server.Streams() == streamsPerConn+1 })
	v.unharmed()
	if n := f.server.Streams(); n != streamsPerConn+1 {
		t.Fatalf("%d streams", n)
	}
	bounded(t, before, 200<<20)
	cancel()
	for range streams {
		<-ended
	}
	v.unharmed()
}
