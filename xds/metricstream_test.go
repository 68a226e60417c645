package xds

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/service/metrics/v3"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm"
)

// meters takes metrics and remembers their names by proxy.
type meters struct {
	mu     sync.Mutex
	open   int
	refuse bool
	got    map[string]string // names by proxy
}

// Open implements Metrics.
func (m *meters) Open(tenant, fleet, proxy string) (MetricStream, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse {
		return nil, errors.New("enough")
	}
	m.open++
	return &meter{meters: m, proxy: tenant + "/" + fleet + "/" + proxy}, nil
}

func (m *meters) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.open
}

func (m *meters) of(proxy string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.got[proxy]
}

type meter struct {
	meters *meters
	proxy  string
}

// Take implements MetricStream.
func (m *meter) Take(message []byte, now time.Time) error {
	var in metricsv3.StreamMetricsMessage
	if err := proto.Unmarshal(message, &in); err != nil {
		return err
	}
	if time.Since(now) > time.Minute {
		return errors.New("an old time")
	}
	m.meters.mu.Lock()
	defer m.meters.mu.Unlock()
	if m.meters.got == nil {
		m.meters.got = map[string]string{}
	}
	for _, f := range in.EnvoyMetrics {
		name := f.GetName()
		m.meters.got[m.proxy] += name[:min(len(name), 10)] + " "
	}
	return nil
}

// Close implements MetricStream.
func (m *meter) Close() {
	m.meters.mu.Lock()
	defer m.meters.mu.Unlock()
	m.meters.open--
}

// gauges is a message with gauges of some names.
func gauges(n *corev3.Node, names ...string) *metricsv3.StreamMetricsMessage {
	m := &metricsv3.StreamMetricsMessage{}
	if n != nil {
		m.Identifier = &metricsv3.StreamMetricsMessage_Identifier{Node: n}
	}
	for _, name := range names {
		m.EnvoyMetrics = append(m.EnvoyMetrics, &dto.MetricFamily{
			Name: &name, Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: proto.Float64(1)}}},
		})
	}
	return m
}

// measure opens a stream of metrics.
func (f *fixture) measure(on *grpc.ClientConn) metricsv3.MetricsService_StreamMetricsClient {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	f.t.Cleanup(cancel)
	s, err := metricsv3.NewMetricsServiceClient(on).StreamMetrics(ctx)
	check(f.t, err)
	return s
}

// wantEnd fails the test unless a stream ends with a code and words.
func wantEnd(t *testing.T, s metricsv3.MetricsService_StreamMetricsClient, code codes.Code, words string) {
	t.Helper()
	if err := s.RecvMsg(&metricsv3.StreamMetricsResponse{}); status.Code(err) != code || !strings.Contains(err.Error(), words) {
		t.Errorf("ended with %v, want %v %s", err, code, words)
	}
}

// registered connects a proxy and waits until the state has it.
func (f *fixture) registered(id string) *client {
	f.t.Helper()
	c := f.connectAs(adsDelta, node(id, "web", ""))
	c.ask(fsm.TypeCluster)
	eventually(f.t, "registered", func() bool { return f.streamsOf(id) == 1 })
	return c
}

func TestMetricsComeIn(t *testing.T) {
	f := newFixture(t)
	f.registered("p1")
	s := f.measure(f.dial())
	check(t, s.Send(gauges(node("p1", "web", ""), "a")))
	check(t, s.Send(gauges(nil, "b", strings.Repeat("c", 300_000)))) // in several pieces
	eventually(t, "all came", func() bool { return f.meters.of("default/web/p1") == "a b cccccccccc " })
	if n := f.server.Streams(); n != 1 {
		t.Errorf("%d xDS streams", n)
	}
	answer, err := s.CloseAndRecv()
	if err != nil || answer == nil {
		t.Errorf("at its end it was told %v, %v", answer, err)
	}
	eventually(t, "closed", func() bool { return f.meters.len() == 0 })
}

func TestMetricsThatAreRefused(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.HelloTimeout = 500 * time.Millisecond })
	f.registered("p1")
	huge := node("p1", "web", "")
	huge.UserAgentName = strings.Repeat("x", maxNode+1)
	for name, c := range map[string]struct {
		first *metricsv3.StreamMetricsMessage
		code  codes.Code
		words string
	}{
		"nobody":        {gauges(nil, "a"), codes.InvalidArgument, "node.id is missing"},
		"unknown proxy": {gauges(node("p2", "web", ""), "a"), codes.FailedPrecondition, `proxy "p2" of fleet "web" is not known`},
		"other fleet":   {gauges(node("p1", "edge", ""), "a"), codes.FailedPrecondition, "is not known"},
		"other tenant":  {gauges(node("p1", "web", "acme"), "a"), codes.FailedPrecondition, "is not known"},
		"bad fleet":     {gauges(node("p1", "UP", ""), "a"), codes.InvalidArgument, "node.cluster"},
		"huge node":     {gauges(huge, "a"), codes.InvalidArgument, "1048576"},
		"silence":       {nil, codes.DeadlineExceeded, "no request within"},
	} {
		t.Run(name, func(t *testing.T) {
			s := f.measure(f.conn)
			if c.first != nil {
				check(t, s.Send(c.first))
			}
			wantEnd(t, s, c.code, c.words)
		})
	}
	f.meters.mu.Lock()
	f.meters.refuse = true
	f.meters.mu.Unlock()
	s := f.measure(f.conn)
	check(t, s.Send(gauges(node("p1", "web", ""), "a")))
	wantEnd(t, s, codes.ResourceExhausted, "enough")
	if err := New(Config{}, Deps{}).measure(nil); status.Code(err) != codes.Unimplemented {
		t.Errorf("without a database: %v", err)
	}
}

// Bytes that are no message end the stream, at its begin and later.
func TestMetricsThatAreNone(t *testing.T) {
	f := newFixture(t)
	v := f.victim()
	f.registered("p1")
	first, err := proto.Marshal(gauges(node("p1", "web", ""), "a"))
	check(t, err)
	for _, messages := range [][][]byte{{{0xff}}, {{1<<3 | 2, 2, 0xff, 0xff}}, {{1<<3 | 2, 3, 1<<3 | 2, 1, 0xff}}, {first, {0xff, 0xff}}} {
		ctx, cancel := context.WithCancel(context.Background())
		s, err := f.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, metricsv3.MetricsService_StreamMetrics_FullMethodName, grpc.ForceCodec(raw{}))
		check(t, err)
		for _, m := range messages {
			check(t, s.SendMsg(m))
		}
		var b []byte
		if err := s.RecvMsg(&b); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%x: ended with %v", messages, err)
		}
		cancel()
	}
	v.unharmed()
}

// A node that drains sends streams of metrics away and takes none.
func TestMetricsGoWithADrain(t *testing.T) {
	f := newFixture(t)
	f.registered("p1")
	s := f.measure(f.conn)
	check(t, s.Send(gauges(node("p1", "web", ""), "a")))
	eventually(t, "came", func() bool { return f.meters.of("default/web/p1") == "a " })
	f.server.SetDraining(true, 100*time.Millisecond)
	wantEnd(t, s, codes.Unavailable, "draining")
	wantEnd(t, f.measure(f.conn), codes.Unavailable, "draining")
	f.server.SetDraining(false, 0)
	eventually(t, "taken again", func() bool {
		s := f.measure(f.conn)
		return s.Send(gauges(node("p1", "web", ""), "b")) == nil && s.Send(gauges(nil, "c")) == nil && f.meters.of("default/web/p1") != "a "
	})
}
