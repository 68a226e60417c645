package rollup

import (
	"math"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

func TestMinutesAreSummedUp(t *testing.T) {
	c := newCollector(t)
	s := c.open(t, "p1")
	for i := range 13 { // every 5 s: the last one is the next minute's
		n := float64(i)
		take(t, s, noon.Add(time.Duration(i)*5*time.Second),
			counted("rq", "class=5 cluster=web", 100+10*n), gauged("cx", "", n-2), observed("time", 2, 30, 10, 1, 25, 2, 50, 2))
	}
	wantRows(t, c,
		"12:00 p1/rq class=5 cluster=web: 12 up 110 last 210",
		"12:00 p1/cx: 12 sum 42 min -2 max 9 last 9",
		"12:00 p1/time: 24 sum 360 le [10 25] counts [12 12]")
	s.Close()
	wantRows(t, c,
		"12:01 p1/rq class=5 cluster=web: 1 up 10 last 220",
		"12:01 p1/cx: 1 sum 10 min 10 max 10 last 10",
		"12:01 p1/time: 2 sum 30 le [10 25] counts [1 1]")
	wantDropped(t, c, nil)
	if c.series.Load() != 0 || len(c.proxies) != 0 {
		t.Errorf("%d series and %d proxies stay", c.series.Load(), len(c.proxies))
	}
}

// The total that a stream begins with says nothing about this stream; one that
// comes later began at 0 since, one that goes down began anew.
func TestCountersAreIncreases(t *testing.T) {
	c := newCollector(t)
	s := c.open(t, "p1")
	take(t, s, noon, counted("old", "", 1000))
	take(t, s, noon.Add(5*time.Second), counted("old", "", 1007), counted("new", "", 3))
	take(t, s, noon.Add(10*time.Second), counted("old", "", 2), counted("new", "", 4))
	s.Close()
	wantRows(t, c, "12:00 p1/old: 3 up 9 last 2", "12:00 p1/new: 2 up 4 last 4")
}

// A flush may come in several messages: a counter of the second one is as old as
// one of the first.
func TestFlushInSeveralMessages(t *testing.T) {
	c := newCollector(t)
	s := c.open(t, "p1")
	take(t, s, noon, counted("a", "", 1000))
	late := counted("b", "", 2000)
	late.Metric[0].TimestampMs = proto.Int64(noon.UnixMilli())
	take(t, s, noon.Add(100*time.Millisecond), late)
	s.Close()
	wantRows(t, c, "12:00 p1/a: 1 up 0 last 1000", "12:00 p1/b: 1 up 0 last 2000")
}

// An interval that ends within a flush makes nothing new of what comes after.
func TestIntervalEndsWithinAFlush(t *testing.T) {
	c := newCollector(t)
	s := c.open(t, "p1")
	part := func(name string, flush, at time.Time) {
		f := counted(name, "", 1000)
		f.Metric[0].TimestampMs = proto.Int64(flush.UnixMilli())
		take(t, s, at, f)
	}
	for _, late := range []time.Duration{59 * time.Second, 60 * time.Second, 180 * time.Second} {
		flush := noon.Add(late)
		part("a", flush, flush.Add(990*time.Millisecond))
		part("b", flush, flush.Add(1010*time.Millisecond))
	}
	s.Close()
	for _, r := range c.queue.take(20) {
		if r.sum != 0 {
			t.Errorf("%v though it stood still", r)
		}
	}
}

// After a loss nobody knows what is new.
func TestNothingIsNewAfterALoss(t *testing.T) {
	c := newCollector(t, func(c *Config) { c.MaxMessage = 200 })
	s := c.open(t, "p1")
	take(t, s, noon, counted("a", "", 1))
	take(t, s, noon.Add(time.Second), counted("a", "", 5), counted("b", "", 5000), gauged(strings.Repeat("x", 200), "", 1))
	take(t, s, noon.Add(2*time.Second), counted("a", "", 6), counted("b", "", 5001))
	take(t, s, noon.Add(3*time.Second), counted("a", "", 6), counted("b", "", 5003))
	s.Close()
	wantRows(t, c, "12:00 p1/a: 3 up 5 last 6", "12:00 p1/b: 2 up 2 last 5003")
	wantDropped(t, c, map[reason]float64{tooLarge: 1})
}

// Streams of one proxy, one after the other on two nodes, count nothing twice.
func TestMoveCountsNothingTwice(t *testing.T) {
	one, two := newCollector(t), newCollector(t)
	s := one.open(t, "p1")
	take(t, s, noon, counted("rq", "", 100))
	take(t, s, noon.Add(5*time.Second), counted("rq", "", 110))
	s.Close()
	s = two.open(t, "p1")
	take(t, s, noon.Add(10*time.Second), counted("rq", "", 120))
	take(t, s, noon.Add(15*time.Second), counted("rq", "", 130))
	s.Close()
	s = one.open(t, "p1") // and back
	take(t, s, noon.Add(20*time.Second), counted("rq", "", 140))
	take(t, s, noon.Add(25*time.Second), counted("rq", "", 150))
	s.Close()
	wantRows(t, one, "12:00 p1/rq: 2 up 10 last 110", "12:00 p1/rq: 2 up 10 last 150")
	wantRows(t, two, "12:00 p1/rq: 2 up 10 last 130")
}

func TestSeriesThatIsGoneIsForgotten(t *testing.T) {
	c := newCollector(t)
	s := c.open(t, "p1")
	take(t, s, noon, gauged("a", "", 1), gauged("b", "", 1), observed("idle", 0, 0, 1, 0))
	for i := range idleIntervals + 1 {
		if n := c.series.Load(); n != 3 {
			t.Errorf("%d series after %d minutes", n, i)
		}
		take(t, s, noon.Add(time.Duration(i+1)*time.Minute), gauged("a", "", 1), observed("idle", 0, 0, 1, 0))
	}
	if n := c.series.Load(); n != 2 {
		t.Errorf("%d series are left, want a and idle", n)
	}
	s.Close()
	wantRows(t, c,
		"12:00 p1/a: 1 sum 1 min 1 max 1 last 1", "12:00 p1/b: 1 sum 1 min 1 max 1 last 1", "12:01 p1/a: 1 sum 1 min 1 max 1 last 1",
		"12:02 p1/a: 1 sum 1 min 1 max 1 last 1", "12:03 p1/a: 1 sum 1 min 1 max 1 last 1",
		"12:04 p1/a: 1 sum 1 min 1 max 1 last 1")
}

func TestSummariesAreLeftOut(t *testing.T) {
	c := newCollector(t)
	s := c.open(t, "p1")
	take(t, s, noon, &dto.MetricFamily{
		Name: proto.String("time"), Type: dto.MetricType_SUMMARY.Enum(),
		Metric: []*dto.Metric{{Summary: &dto.Summary{SampleCount: proto.Uint64(3)}}},
	})
	s.Close()
	wantRows(t, c)
	wantDropped(t, c, nil)
}

func TestBounds(t *testing.T) {
	c := newCollector(t, func(c *Config) { c.ProxySeries, c.NodeSeries, c.QueueRows, c.MaxStreams = 3, 4, 5, 2 })
	families := func(names string) (out []*dto.MetricFamily) {
		for _, n := range names {
			out = append(out, gauged(string(n), "", 1))
		}
		return out
	}
	one, two := c.open(t, "p1"), c.open(t, "p1")
	take(t, one, noon, families("ab")...)
	take(t, two, noon, families("abc")...)
	wantDropped(t, c, map[reason]float64{tooMany: 2}) // of 3 of the proxy
	if _, err := c.Open("default", "edge", "p1"); err == nil {
		t.Error("a third stream is taken")
	}
	other := c.open(t, "p2")
	take(t, other, noon, families("abc")...)
	wantDropped(t, c, map[reason]float64{tooMany: 4}) // of 4 of the node
	for i := range 2 {
		take(t, other, noon.Add(time.Duration(i+1)*time.Minute), families("a")...)
	}
	one.Close()
	two.Close()
	other.Close()
	wantDropped(t, c, map[reason]float64{tooMany: 4, queueFull: 1}) // 2 + 1 + 3 rows, 5 fit
	if n := c.series.Load(); n != 0 || len(c.queue.take(10)) != 5 {
		t.Errorf("%d series are left", n)
	}
}

func TestWhatIsNoNumberIsDropped(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	long := strings.Repeat("x", maxName+1)
	many := ""
	for i := range maxLabels + 1 {
		many += " " + string(rune('a'+i)) + "=1"
	}
	var lots []float64
	for i := range maxBuckets + 2 {
		lots = append(lots, float64(i), 0)
	}
	for name, f := range map[string]*dto.MetricFamily{
		"NaN":                  gauged("g", "", nan),
		"infinite":             gauged("g", "", -inf),
		"too large":            gauged("g", "", 1.1*maxValue),
		"counter NaN":          counted("c", "", nan),
		"counter below 0":      counted("c", "", -1),
		"long name":            gauged(long, "", 1),
		"zero character":       gauged("a\x00b", "", 1),
		"zero in a label":      gauged("a", "x=a\x00", 1),
		"long label":           gauged("a", long+"=1", 1),
		"long label value":     gauged("a", "x="+long, 1),
		"huge labels":          gauged("a", "x="+strings.Repeat("y", maxKey), 1),
		"many labels":          gauged("a", many, 1),
		"untyped":              {Name: proto.String("u"), Type: dto.MetricType_UNTYPED.Enum()},
		"histogram's sum":      observed("h", 1, nan),
		"its buckets shrink":   observed("h", 2, 1, 1, 2, 2, 1),
		"its bounds shrink":    observed("h", 2, 1, 2, 1, 1, 2),
		"its bound is NaN":     observed("h", 2, 1, nan, 1),
		"its bound is -Inf":    observed("h", 2, 1, -inf, 1),
		"more than it counts":  observed("h", 2, 1, 1, 3),
		"counts too much":      observed("h", maxCount+1, 1),
		"counts beyond all":    observed("h", math.MaxUint64, 1),
		"too many buckets":     observed("h", 1, 1, lots...),
		"name that is no text": nil,
	} {
		t.Run(name, func(t *testing.T) {
			c := newCollector(t)
			s := c.open(t, "p1")
			if f == nil { // which the library would not send
				b := []byte{2<<3 | 2, 12, 1<<3 | 2, 1, 0xff, 3 << 3, 1, 4<<3 | 2, 2, 2<<3 | 2, 0, 5 << 3, 1}
				b[1] = byte(len(b) - 2)
				if err := s.Take(b, noon); err != nil {
					t.Fatal(err)
				}
			} else {
				take(t, s, noon, f)
			}
			take(t, s, noon, gauged("ok", "", 1))
			s.Close()
			wantRows(t, c, "12:00 p1/ok: 1 sum 1 min 1 max 1 last 1")
			wantDropped(t, c, map[reason]float64{invalid: 1})
		})
	}
}

// Sums of what is finite may not be.
func TestSumsStayFinite(t *testing.T) {
	c := newCollector(t)
	s := c.open(t, "p1")
	for i := range 3 {
		at := noon.Add(time.Duration(i) * time.Second)
		take(t, s, at, gauged("g", "", maxValue), counted("c", "", maxValue*float64(i%2)), observed("h", maxCount/2, maxValue, 1, 1))
	}
	s.Close()
	for _, r := range c.queue.take(10) {
		if !finite(r.sum) || r.count < 0 || r.count > maxCount {
			t.Error(r)
		}
	}
}

// A histogram's buckets do not change within a stream; of one that does, no
// sums can be made.
func TestHistogramWithOtherBuckets(t *testing.T) {
	c := newCollector(t)
	s := c.open(t, "p1")
	take(t, s, noon, observed("h", 3, 3, 1, 1, 2, 2, math.Inf(1), 3))
	take(t, s, noon, observed("h", 3, 3, 1, 1, 3, 2))
	take(t, s, noon, observed("h", 3, 3, 1, 1))
	take(t, s, noon.Add(time.Minute), observed("h", 5, 9, 1, 0, 10, 0, 100, 4, 1000, 4))
	s.Close()
	wantRows(t, c, "12:00 p1/h: 3 sum 3 le [1 2] counts [1 1]", "12:01 p1/h: 5 sum 9 le [10 100 1000] counts [0 4 0]")
	wantDropped(t, c, map[reason]float64{invalid: 2})
}

func TestAllowList(t *testing.T) {
	a := newAllowList([]string{"server.live", "cluster.*.upstream_rq_*", "http.*", "*x*y*", "a*a"})
	for name, want := range map[string]bool{
		"server.live": true, "server.lives": false, "cluster.web.upstream_rq_total": true, "cluster.upstream_rq_total": false,
		"cluster..upstream_rq_": true, "http.": true, "http": false, "": false, "axbyc": true, "xy": true, "yx": false, "a": false, "aa": true, "aba": true,
	} {
		if a.allows([]byte(name)) != want {
			t.Errorf("%q: not %v", name, want)
		}
	}
	if err := CheckAllow(DefaultAllow()); err != nil {
		t.Error(err)
	}
	for _, bad := range [][]string{{""}, {"a b"}, {"a\n"}, {strings.Repeat("x", maxName+1)}, make([]string, maxAllowed+1)} {
		if CheckAllow(bad) == nil {
			t.Errorf("%.20q is taken", bad)
		}
	}
	c := newCollector(t, func(c *Config) { c.Allow = []string{"a"} })
	s := c.open(t, "p1")
	take(t, s, noon, gauged("a", "", 1), gauged("b", "", 1))
	s.Close()
	wantRows(t, c, "12:00 p1/a: 1 sum 1 min 1 max 1 last 1")
}

func TestConfigNamesEveryMistake(t *testing.T) {
	_, err := New(Config{Interval: 7 * time.Second, Allow: []string{""}, QueueRows: -1}, Deps{})
	for _, want := range []string{"URL", "7s", `""`, "negative"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not tell of %s", err, want)
		}
	}
}
