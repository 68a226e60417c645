package rollup

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Stream sums up what one proxy sends on one stream. Its methods are called by
// one goroutine at a time.
type Stream struct {
	collector *Collector
	proxy     *proxy
	series    map[string]*series
	// at is where the interval begins.
	at time.Time
	// first is the time of the first messages, by the proxy's clock. A counter that
	// comes later is a new one, unless something was lost meanwhile.
	first int64
	lost  bool

	key      []byte // of the metric that is looked at
	observed observations
}

// maxKey bounds the name and labels of a metric, as they came.
const maxKey = 16 << 10

// Take sums up one message of the metrics service (StreamMetricsMessage), which
// came at a time. It never waits. An error says that it is none.
func (s *Stream) Take(message []byte, now time.Time) error {
	s.roll(now)
	if len(message) > s.collector.cfg.MaxMessage {
		s.drop(tooLarge)
		return nil
	}
	for b := message; len(b) > 0; {
		f, rest, err := next(b)
		if err != nil {
			return err
		}
		if b = rest; f.number != messageFamily {
			continue
		}
		if err := s.takeFamily(f.bytes); err != nil {
			return err
		}
	}
	return nil
}

// Close hands over what the stream has of the present interval.
func (s *Stream) Close() {
	s.emit()
	for key := range s.series {
		s.forget(key)
	}
	s.collector.closed(s.proxy)
}

// drop notes that something was lost that may come later: what comes then may not
// be new.
func (s *Stream) drop(why reason) {
	s.lost = true
	s.collector.metrics.drop(why, 1)
}

func (s *Stream) takeFamily(b []byte) error {
	family, err := readFamily(b)
	if err != nil {
		return err
	}
	if len(family.name) > maxName {
		s.collector.metrics.drop(invalid, 1)
		return nil
	}
	if !s.collector.allow.allows(family.name) {
		return nil
	}
	switch family.kind {
	case counter, gauge, histogram:
	case summary:
		return nil // Envoy sends each histogram as one, too; they cannot be summed up
	default:
		s.collector.metrics.drop(invalid, 1)
		return nil
	}
	for len(b) > 0 {
		f, rest, err := next(b)
		if err != nil {
			return err
		}
		if b = rest; f.number != familyMetric {
			continue
		}
		if err := s.takeMetric(family, f.bytes); err != nil {
			return err
		}
	}
	return nil
}

func (s *Stream) takeMetric(f family, metric []byte) error {
	var value []byte
	var at int64
	want := protowire.Number(metricCounter)
	switch f.kind {
	case gauge:
		want = metricGauge
	case histogram:
		want = metricHistogram
	}
	s.key = append(append(append(s.key[:0], byte(f.kind)), f.name...), 0)
	for b := metric; len(b) > 0; {
		field, rest, err := next(b)
		if err != nil {
			return err
		}
		switch b = rest; field.number {
		case metricLabel:
			if len(s.key)+len(field.bytes) > maxKey {
				s.collector.metrics.drop(invalid, 1)
				return nil
			}
			s.key = protowire.AppendBytes(s.key, field.bytes)
		case metricTimestamp:
			at = int64(field.bits)
		case want:
			value = field.bytes
		}
	}
	if s.first == 0 {
		s.first = at
	}
	x := s.find(f, metric)
	if x == nil {
		return nil
	}
	return s.add(x, value, at)
}

// find returns the series of s.key, nil when it cannot be one or is one too many.
func (s *Stream) find(f family, metric []byte) *series {
	if x, ok := s.series[string(s.key)]; ok {
		return x
	}
	x := newSeries(f, metric)
	switch {
	case x == nil:
		s.collector.metrics.drop(invalid, 1)
		return nil
	case !s.collector.admit(s.proxy):
		s.drop(tooMany)
		return nil
	}
	s.series[string(s.key)] = x
	return x
}

func (s *Stream) add(x *series, value []byte, at int64) error {
	var ok bool
	switch x.kind {
	case histogram:
		if err := s.observed.read(value); err != nil {
			return err
		}
		ok = x.addHistogram(&s.observed)
	case counter:
		v, err := readValue(value, counterValue)
		if err != nil {
			return err
		}
		ok = x.addCounter(v, at > s.first && !s.lost)
	default:
		v, err := readValue(value, gaugeValue)
		if err != nil {
			return err
		}
		ok = x.addGauge(v)
	}
	x.seen = true
	if !ok {
		s.collector.metrics.drop(invalid, 1)
		return nil
	}
	s.collector.metrics.samples.Inc()
	return nil
}

// roll ends the interval when it is over.
func (s *Stream) roll(now time.Time) {
	at := now.UTC().Truncate(s.collector.cfg.Interval)
	if at.Equal(s.at) {
		return
	}
	s.emit()
	s.at = at
}

// idleIntervals is how many intervals with messages have nothing of a series until
// it is gone. One is too few: a flush may come in several messages, and an interval
// may end between them.
const idleIntervals = 3

// emit hands over the interval's rows and forgets the series that are gone.
func (s *Stream) emit() {
	rows := make([]row, 0, len(s.series))
	for key, x := range s.series {
		if !x.seen {
			if x.idle++; x.idle == idleIntervals {
				s.forget(key)
			}
			continue
		}
		x.seen, x.idle = false, 0
		if x.count > 0 { // a histogram may have observed nothing
			rows = append(rows, x.close(s.at, s.proxy))
		}
	}
	s.collector.queue.offer(rows)
}

func (s *Stream) forget(key string) {
	delete(s.series, key)
	s.collector.dismiss(s.proxy)
}
