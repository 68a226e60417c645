package archive

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the archive's. The gauges are computed from the replicated state
// when they are read, so that every node has them.
type metrics struct {
	batches, events, errors, gaps prometheus.Counter
	seconds                       prometheus.Histogram
	// defaultRows are there while this node writes.
	defaultRows *prometheus.GaugeVec
}

func newMetrics(registry prometheus.Registerer, a *Archive) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	m := &metrics{
		batches: counter("ecp_archive_batches_total", "Batches that this node stored."),
		events:  counter("ecp_archive_events_total", "Events that this node stored."),
		errors:  counter("ecp_archive_errors_total", "Failures of this node's archive writer."),
		gaps:    counter("ecp_archive_gap_events_total", "Events that were gone before this node could store them."),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ecp_archive_batch_seconds", Help: "Time to store a batch.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
		}),
		defaultRows: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ecp_archive_default_rows", Help: "Rows that fit in no monthly partition, up to 10,000; from the node that writes.",
		}, []string{"table"}),
	}
	if registry == nil {
		return m
	}
	registry.MustRegister(m.batches, m.events, m.errors, m.gaps, m.seconds, m.defaultRows,
		gauge("ecp_archive_lag_events", "Events that are not stored yet.", func() float64 {
			st := a.cluster.State()
			return float64(st.Seq() - min(st.Seq(), st.ArchivedSeq()))
		}),
		gauge("ecp_archive_lag_seconds", "Age of the oldest event that is not stored yet.", func() float64 {
			return lag(a.cluster.State(), time.Now()).Seconds()
		}),
		gauge("ecp_archive_outbox_bytes", "Size of the events that are not stored yet.", func() float64 {
			return float64(a.cluster.State().OutboxBytes())
		}),
		gauge("ecp_archive_quarantined_events", "Events set aside because Postgres refuses them, while this node leads.", func() float64 {
			return float64(a.Quarantined())
		}),
		gauge("ecp_archive_up", "0 while this node leads and cannot write to the archive.", func() float64 {
			if a.Status().State == StateDown {
				return 0
			}
			return 1
		}),
	)
	return m
}
