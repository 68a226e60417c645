package rollup

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/service/metrics/v3"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
)

func TestMain(m *testing.M) {
	// The Postgres that the tests share ends with the process.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/org/envoy-control-plane/deploy/local.(*Process).wait"))
}

// noon is when tests begin.
var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

func newCollector(t testing.TB, change ...func(*Config)) *Collector {
	t.Helper()
	cfg := Config{DatabaseURL: "postgres://nowhere/", Node: "n1", Allow: []string{"*"}, Linger: time.Millisecond}
	for _, c := range change {
		c(&cfg)
	}
	c, err := New(cfg, Deps{
		Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Cluster: func() string { return "c" },
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *Collector) open(t testing.TB, proxy string) *Stream {
	t.Helper()
	s, err := c.Open("default", "edge", proxy)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// take hands a flush over, of which all metrics have its time.
func take(t testing.TB, s *Stream, at time.Time, families ...*dto.MetricFamily) {
	t.Helper()
	for _, f := range families {
		for _, m := range f.Metric {
			if m.TimestampMs == nil {
				m.TimestampMs = proto.Int64(at.UnixMilli())
			}
		}
	}
	if err := s.Take(message(t, families...), at); err != nil {
		t.Fatal(err)
	}
}

func message(t testing.TB, families ...*dto.MetricFamily) []byte {
	t.Helper()
	b, err := proto.Marshal(&metricsv3.StreamMetricsMessage{EnvoyMetrics: families})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func pairsOf(labels string) (out []*dto.LabelPair) {
	for pair := range strings.FieldsSeq(labels) {
		name, value, _ := strings.Cut(pair, "=")
		out = append(out, &dto.LabelPair{Name: &name, Value: &value})
	}
	return out
}

func counted(name, labels string, total float64) *dto.MetricFamily {
	return &dto.MetricFamily{Name: &name, Type: dto.MetricType_COUNTER.Enum(), Metric: []*dto.Metric{
		{Label: pairsOf(labels), Counter: &dto.Counter{Value: &total}},
	}}
}

func gauged(name, labels string, value float64) *dto.MetricFamily {
	return &dto.MetricFamily{Name: &name, Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{
		{Label: pairsOf(labels), Gauge: &dto.Gauge{Value: &value}},
	}}
}

// observed is a histogram of bound and cumulative count in turn.
func observed(name string, count uint64, sum float64, buckets ...float64) *dto.MetricFamily {
	h := &dto.Histogram{SampleCount: &count, SampleSum: &sum}
	for b := range slices.Chunk(buckets, 2) {
		h.Bucket = append(h.Bucket, &dto.Bucket{UpperBound: &b[0], CumulativeCount: proto.Uint64(uint64(b[1]))})
	}
	return &dto.MetricFamily{Name: &name, Type: dto.MetricType_HISTOGRAM.Enum(), Metric: []*dto.Metric{{Histogram: h}}}
}

// String shows a row in tests.
func (r row) String() string {
	labels := map[string]string{}
	_ = json.Unmarshal([]byte(r.labels), &labels)
	out := fmt.Sprintf("%s %s/%s", r.at.Format("15:04"), r.proxy.id, r.name)
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		out += fmt.Sprintf(" %s=%s", name, labels[name])
	}
	switch r.kind {
	case counter:
		return out + fmt.Sprintf(": %d up %g last %g", r.count, r.sum, r.last)
	case gauge:
		return out + fmt.Sprintf(": %d sum %g min %g max %g last %g", r.count, r.sum, r.min, r.max, r.last)
	default:
		return out + fmt.Sprintf(": %d sum %g le %g counts %d", r.count, r.sum, r.le, r.counts)
	}
}

// wantRows fails the test unless these rows, in any order, wait to be written.
func wantRows(t testing.TB, c *Collector, want ...string) {
	t.Helper()
	var got []string
	for _, r := range c.queue.take(c.cfg.QueueRows) {
		got = append(got, r.String())
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("rows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// wantDropped fails the test unless so many were dropped for each reason.
func wantDropped(t testing.TB, c *Collector, want map[reason]float64) {
	t.Helper()
	for r, counter := range c.metrics.dropped {
		var m dto.Metric
		if err := counter.Write(&m); err != nil {
			t.Fatal(err)
		}
		if got := m.GetCounter().GetValue(); got != want[r] {
			t.Errorf("%g dropped for %s, want %g", got, r, want[r])
		}
	}
}
