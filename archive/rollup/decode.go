package rollup

import (
	"errors"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// Fields of the messages, by number. A message of the metrics service holds
// thousands of metrics of which dozens are kept, so that it is read without being
// decoded: what is not on the list costs its name.
const (
	messageFamily = 2

	familyName, familyType, familyMetric = 1, 3, 4

	metricLabel, metricGauge, metricCounter, metricTimestamp, metricHistogram = 1, 2, 3, 6, 7

	labelName, labelValue = 1, 2

	gaugeValue, counterValue = 1, 1

	histogramCount, histogramSum, histogramBucket = 1, 2, 3

	bucketCount, bucketBound = 1, 2
)

var errMalformed = errors.New("not a message of the metrics service")

// kind is what a series is, with the numbers of the message's types.
type kind uint8

const (
	counter   kind = 0
	gauge     kind = 1
	summary   kind = 2
	histogram kind = 4
)

// String returns the kind as the table has it.
func (k kind) String() string {
	switch k {
	case counter:
		return "counter"
	case gauge:
		return "gauge"
	default:
		return "histogram"
	}
}

// field is one field of a message: its bytes, or its bits.
type field struct {
	number protowire.Number
	wire   protowire.Type
	bytes  []byte
	bits   uint64
}

// float is the field as a double, NaN when it is none.
func (f field) float() float64 {
	if f.wire != protowire.Fixed64Type {
		return math.NaN()
	}
	return math.Float64frombits(f.bits)
}

// next cuts the first field off a message.
func next(b []byte) (f field, rest []byte, err error) {
	var n int
	f.number, f.wire, n = protowire.ConsumeTag(b)
	if n < 0 {
		return f, nil, errMalformed
	}
	b = b[n:]
	switch f.wire {
	case protowire.VarintType:
		f.bits, n = protowire.ConsumeVarint(b)
	case protowire.Fixed64Type:
		f.bits, n = protowire.ConsumeFixed64(b)
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(b)
	default:
		n = protowire.ConsumeFieldValue(f.number, f.wire, b)
	}
	if n < 0 {
		return f, nil, errMalformed
	}
	return f, b[n:], nil
}

// family is the head of a metric family.
type family struct {
	name []byte
	kind kind
}

// readFamily reads the name and the type of a family, whose metrics may come
// before them.
func readFamily(b []byte) (out family, err error) {
	for len(b) > 0 {
		var f field
		if f, b, err = next(b); err != nil {
			return out, err
		}
		switch f.number {
		case familyName:
			out.name = f.bytes
		case familyType:
			out.kind = kind(min(f.bits, math.MaxUint8))
		}
	}
	return out, nil
}

// readValue returns a field of a message that is a double; 0 when it is absent,
// as protobuf has it.
func readValue(b []byte, number protowire.Number) (v float64, err error) {
	for len(b) > 0 {
		var f field
		if f, b, err = next(b); err != nil {
			return 0, err
		}
		if f.number == number {
			v = f.float()
		}
	}
	return v, nil
}

// readPair reads a label.
func readPair(b []byte) (name, value []byte, err error) {
	for len(b) > 0 {
		var f field
		if f, b, err = next(b); err != nil {
			return nil, nil, err
		}
		switch f.number {
		case labelName:
			name = f.bytes
		case labelValue:
			value = f.bytes
		}
	}
	return name, value, nil
}

// observations are what a histogram has observed since the one before.
type observations struct {
	count   uint64
	sum     float64
	bounds  []float64
	through []uint64 // cumulative
}

// read reads a histogram into o, whose slices it uses again.
func (o *observations) read(b []byte) error {
	*o = observations{bounds: o.bounds[:0], through: o.through[:0]}
	for len(b) > 0 {
		f, rest, err := next(b)
		if err != nil {
			return err
		}
		switch b = rest; f.number {
		case histogramCount:
			o.count = f.bits
		case histogramSum:
			o.sum = f.float()
		case histogramBucket:
			if err := o.readBucket(f.bytes); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *observations) readBucket(b []byte) error {
	var through uint64
	var bound float64
	for len(b) > 0 {
		f, rest, err := next(b)
		if err != nil {
			return err
		}
		switch b = rest; f.number {
		case bucketCount:
			through = f.bits
		case bucketBound:
			bound = f.float()
		}
	}
	// What the infinite one has is count. One too many is enough to be refused for.
	if !math.IsInf(bound, 1) && len(o.bounds) <= maxBuckets {
		o.bounds, o.through = append(o.bounds, bound), append(o.through, through)
	}
	return nil
}

// maxBuckets bounds those of a histogram; Envoy's own have 20.
const maxBuckets = 100

// valid reports whether it can be a histogram: finite, its buckets in order.
func (o *observations) valid() bool {
	if !finite(o.sum) || o.count > maxCount || len(o.bounds) > maxBuckets {
		return false
	}
	for i, bound := range o.bounds {
		if !finite(bound) || o.through[i] > o.count {
			return false
		}
		if i > 0 && (bound <= o.bounds[i-1] || o.through[i] < o.through[i-1]) {
			return false
		}
	}
	return true
}

// Bounds of numbers, so that no sum over rows leaves what Postgres can hold.
const (
	maxValue = 1e200
	maxCount = 1 << 40 // observations in a row
)

// finite reports whether it is a number that can be summed up.
func finite(x float64) bool { return math.Abs(x) <= maxValue }
