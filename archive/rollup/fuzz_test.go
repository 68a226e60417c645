package rollup

import (
	"math"
	"testing"
	"time"
	"unicode/utf8"

	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/service/metrics/v3"
	"google.golang.org/protobuf/proto"
)

// FuzzTake takes two messages on one stream. Whatever comes, what the library
// can read is read, and all that becomes of it are bounded rows that Postgres can
// hold.
func FuzzTake(f *testing.F) {
	f.Add(message(f, counted("a", "x=1", 3), gauged("b", "", -1)), message(f, counted("a", "x=1", 5)))
	f.Add(message(f, observed("h", 5, 9, 1, 0, 10, 0, 100, 4)), message(f, observed("h", 5, 9, 1, 0, 10, 0, 100, 4)))
	f.Add(message(f, gauged("g", "a=1 b=2", math.NaN())), []byte{2<<3 | 2, 2, 3 << 3, 9})
	f.Add(message(f, observed("h", math.MaxUint64, math.Inf(1), math.Inf(-1), 7)), []byte{0xff})
	f.Fuzz(func(t *testing.T, one, two []byte) {
		c := newCollector(t, func(c *Config) { c.ProxySeries = 8 })
		s := c.open(t, "p1")
		for i, b := range [][]byte{one, two} {
			err := s.Take(b, noon.Add(time.Duration(i)*time.Second))
			if err != nil && proto.Unmarshal(b, &metricsv3.StreamMetricsMessage{}) == nil {
				t.Fatalf("%x: %v", b, err)
			}
		}
		s.Close()
		rows := c.queue.take(100)
		if len(rows) > 8 || c.series.Load() != 0 {
			t.Fatalf("%d rows, %d series", len(rows), c.series.Load())
		}
		for _, r := range rows {
			if !finite(r.sum) || !finite(r.min) || !finite(r.max) || !finite(r.last) || r.count <= 0 || r.kind == counter && r.sum < 0 ||
				!utf8.ValidString(r.name) || !utf8.ValidString(r.labels) || len(r.le) != len(r.counts) || len(r.le) > maxBuckets {
				t.Fatal(r)
			}
			left := r.count
			for i := range r.le {
				left -= r.counts[i]
				if !finite(r.le[i]) || r.counts[i] < 0 || left < 0 || i > 0 && r.le[i] <= r.le[i-1] {
					t.Fatal(r)
				}
			}
		}
	})
}
