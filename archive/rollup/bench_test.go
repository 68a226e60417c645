package rollup

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/service/metrics/v3"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

// flush is what an Envoy sends at a time: so many metrics that are kept, a tenth
// of them histograms, among as many as it has. The names of those that are kept
// begin with "kept".
func flush(b *testing.B, kept, of int) []byte {
	b.Helper()
	var families []*dto.MetricFamily
	for i := range of {
		name := fmt.Sprintf("other.upstream_rq_%d", i)
		if i%max(1, of/kept) == 0 {
			name = fmt.Sprintf("kept.upstream_rq_%d", i)
		}
		labels := "envoy.cluster_name=service-12 envoy.response_code_class=2"
		switch {
		case i/max(1, of/kept)%10 == 0:
			buckets := []float64{}
			for n, le := range []float64{.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000} {
				buckets = append(buckets, le, float64(10*n))
			}
			families = append(families, observed(name, 190, 2500, buckets...))
		case i%2 == 0:
			families = append(families, counted(name, labels, float64(i)))
		default:
			families = append(families, gauged(name, labels, float64(i)))
		}
	}
	return message(b, families...)
}

// BenchmarkTake sums up what one Envoy sends. x_decode is the time beside that of
// decoding the message by the protobuf library, in the same run.
func BenchmarkTake(b *testing.B) {
	for _, of := range []int{100, 2000} {
		b.Run(fmt.Sprintf("100_of_%d", of), func(b *testing.B) {
			flush := flush(b, 100, of)
			began, rounds := time.Now(), 0
			for ; time.Since(began) < 500*time.Millisecond; rounds++ {
				if err := proto.Unmarshal(flush, &metricsv3.StreamMetricsMessage{}); err != nil {
					b.Fatal(err)
				}
			}
			decode := float64(time.Since(began).Nanoseconds()) / float64(rounds)
			c := newCollector(b, func(c *Config) { c.Allow = []string{"kept.*"} })
			s := c.open(b, "p1")
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Take(flush, noon); err != nil {
					b.Fatal(err)
				}
			}
			took := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
			b.ReportMetric(took/100, "ns/sample")
			b.ReportMetric(took/decode, "x_decode")
			if n := c.series.Load(); n != 100 {
				b.Fatalf("%d series", n)
			}
		})
	}
}

// BenchmarkThousandProxies has 1,000 proxies send 100 metrics each every 5 s, and
// writes what a minute of it comes to: "minute" is its time, of all three together,
// "cores" what share of a core that is, bytes/series what the sums take of memory.
func BenchmarkThousandProxies(b *testing.B) {
	const proxies, every = 1000, 5 * time.Second
	dsn, conn := database(b)
	flush := flush(b, 100, 100)
	before := heap()
	c := newCollector(b, func(c *Config) { c.DatabaseURL, c.QueueRows = dsn, 200_000 })
	streams := make([]*Stream, proxies)
	for i := range streams {
		streams[i] = c.open(b, fmt.Sprintf("proxy-%d", i))
	}
	minute := 0
	round := func() {
		for at := time.Duration(0); at < time.Minute; at += every {
			for _, s := range streams {
				if err := s.Take(flush, noon.Add(time.Duration(minute)*time.Minute+at)); err != nil {
					b.Fatal(err)
				}
			}
		}
		minute++
	}
	round()
	memory := heap() - before
	c.run(b)
	for b.Loop() {
		round() // hands over the minute before
		for c.queue.len() > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	took := b.Elapsed().Seconds() / float64(b.N)
	b.ReportMetric(took, "s/minute")
	b.ReportMetric(took/60, "cores")
	b.ReportMetric(float64(memory)/float64(c.series.Load()), "bytes/series")
	var rows, size int64
	if err := conn.QueryRow(b.Context(), "SELECT count(*), pg_total_relation_size('proxy_metrics_default') FROM proxy_metrics").Scan(&rows, &size); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(size)/float64(max(1, rows)), "bytes/row")
	if n := c.dropped(queueFull) + c.dropped(failed); n > 0 {
		b.Errorf("%g rows were dropped", n)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
