package rollup

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"
	"unicode/utf8"
)

// series is one metric of a proxy with its labels: what an interval has of it so
// far and, of a counter, its last total.
type series struct {
	name, labels string
	kind         kind
	seen         bool // in this interval
	idle         int  // intervals since it was

	total float64
	known bool // total is

	count          int64
	sum            float64
	min, max, last float64
	bounds         []float64
	counts         []uint64 // in each bucket
}

// row is what an interval of a series came to.
type row struct {
	at    time.Time
	proxy *proxy
	*series
	count          int64
	sum            float64
	min, max, last float64
	le             []float64
	counts         []int64
}

// addCounter takes a counter's total. Totals rather than increments are sent, so
// that a lost message loses nothing: one that went down has begun anew, and one
// that came after the first messages began at 0 since.
func (x *series) addCounter(total float64, born bool) bool {
	up := 0.0
	switch {
	case !finite(total) || total < 0:
		return false
	case x.known && total >= x.total:
		up = total - x.total
	case x.known || born:
		up = total
	}
	if !finite(x.sum + up) {
		return false
	}
	x.total, x.known = total, true
	x.count, x.sum, x.last = x.count+1, x.sum+up, total
	return true
}

func (x *series) addGauge(v float64) bool {
	if !finite(v) || !finite(x.sum+v) {
		return false
	}
	if x.count == 0 {
		x.min, x.max = v, v
	}
	x.count, x.sum, x.last = x.count+1, x.sum+v, v
	x.min, x.max = min(x.min, v), max(x.max, v)
	return true
}

// addHistogram takes what was observed since the message before.
func (x *series) addHistogram(o *observations) bool {
	if !o.valid() || !finite(x.sum+o.sum) || x.count+int64(o.count) > maxCount {
		return false
	}
	if x.count == 0 {
		x.bounds = append(x.bounds[:0], o.bounds...)
		x.counts = append(x.counts[:0], make([]uint64, len(o.bounds))...)
	}
	if !slices.Equal(x.bounds, o.bounds) {
		return false // they are an Envoy's bootstrap's and do not change
	}
	before := uint64(0)
	for i, through := range o.through {
		x.counts[i] += through - before
		before = through
	}
	x.count, x.sum = x.count+int64(o.count), x.sum+o.sum
	return true
}

// close returns the interval's row and begins the next one.
func (x *series) close(at time.Time, p *proxy) row {
	r := row{at: at, proxy: p, series: x, count: x.count, sum: x.sum, min: x.min, max: x.max, last: x.last}
	if x.kind == histogram {
		r.le, r.counts = x.buckets()
	}
	x.count, x.sum = 0, 0
	return r
}

// buckets are those that have observations, and those below, whose bounds are
// where they begin.
func (x *series) buckets() (le []float64, counts []int64) {
	le, counts = []float64{}, []int64{}
	rest := uint64(x.count)
	for _, n := range x.counts {
		rest -= n
	}
	for i, n := range x.counts {
		above := rest
		if i+1 < len(x.counts) {
			above = x.counts[i+1]
		}
		if n > 0 || above > 0 {
			le, counts = append(le, x.bounds[i]), append(counts, int64(n))
		}
	}
	return le, counts
}

// Bounds of the labels of a series.
const (
	maxLabels     = 16
	maxLabelName  = 128 // bytes
	maxLabelValue = 512 // bytes
)

// newSeries returns the series of a name and the labels of a metric, nil when it
// cannot be one.
func newSeries(f family, metric []byte) *series {
	if !storable(f.name) {
		return nil
	}
	labels := map[string]string{}
	for b := metric; len(b) > 0; {
		field, rest, err := next(b)
		if err != nil {
			return nil
		}
		if b = rest; field.number != metricLabel {
			continue
		}
		name, value, err := readPair(field.bytes)
		if err != nil || len(name) > maxLabelName || len(value) > maxLabelValue || !storable(name) || !storable(value) {
			return nil
		}
		if labels[string(name)] = string(value); len(labels) > maxLabels {
			return nil
		}
	}
	text, _ := json.Marshal(labels) // strings always marshal
	return &series{name: string(f.name), kind: f.kind, labels: string(text)}
}

// storable reports whether Postgres' text and jsonb can hold it.
func storable(b []byte) bool { return utf8.Valid(b) && !bytes.ContainsRune(b, 0) }
