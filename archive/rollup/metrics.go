package rollup

import (
	"github.com/prometheus/client_golang/prometheus"
)

// reason says why something was dropped.
type reason string

const (
	tooLarge  reason = "too_large"  // messages beyond the bound
	invalid   reason = "invalid"    // metrics that are not numbers, or whose names or labels are not kept
	tooMany   reason = "series"     // metrics beyond the bounds of series
	queueFull reason = "queue_full" // rows, while the database is slow or away
	failed    reason = "database"   // rows that the database did not take
)

// metrics are the collector's own.
type metrics struct {
	streams       prometheus.Gauge
	samples, rows prometheus.Counter
	dropped       map[reason]prometheus.Counter
}

func newMetrics(registry prometheus.Registerer, c *Collector) *metrics {
	dropped := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ecp_proxy_metrics_dropped_total",
		Help: "What was dropped of proxies' metrics: messages (too_large), samples (invalid, series), rows (queue_full, database).",
	}, []string{"reason"})
	m := &metrics{
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ecp_proxy_metrics_streams", Help: "Open streams of proxies' metrics.",
		}),
		samples: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ecp_proxy_metrics_samples_total", Help: "Samples of proxies' metrics that were summed up.",
		}),
		rows: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ecp_proxy_metrics_rows_total", Help: "Rows of proxies' metrics that were written.",
		}),
		dropped: map[reason]prometheus.Counter{},
	}
	for _, r := range []reason{tooLarge, invalid, tooMany, queueFull, failed} {
		m.dropped[r] = dropped.WithLabelValues(string(r))
	}
	if registry == nil {
		return m
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	registry.MustRegister(
		m.streams, m.samples, m.rows, dropped,
		gauge("ecp_proxy_metrics_series", "Series of proxies' metrics that are summed up.", func() float64 { return float64(c.series.Load()) }),
		gauge("ecp_proxy_metrics_queue_rows", "Rows of proxies' metrics that wait to be written.", func() float64 { return float64(c.queue.len()) }),
	)
	return m
}

func (m *metrics) drop(r reason, n int) { m.dropped[r].Add(float64(n)) }
