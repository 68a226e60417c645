package backup

import "github.com/prometheus/client_golang/prometheus"

// metrics are of the backups that this node made, and of those it has seen as
// leader.
type metrics struct {
	made, failures prometheus.Counter
	seconds        prometheus.Histogram
	kept           prometheus.Gauge
}

func newMetrics(registry prometheus.Registerer, k *Keeper) *metrics {
	m := &metrics{
		made: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ecp_backups_total", Help: "Backups that this node made and verified.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ecp_backup_failures_total", Help: "Attempts of this node at a backup, or at the removal of old ones, that failed.",
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ecp_backup_seconds", Help: "Time to make and verify a backup.",
			Buckets: prometheus.ExponentialBuckets(0.01, 4, 10),
		}),
		kept: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ecp_backup_kept", Help: "Backups in the target when this node looked last.",
		}),
	}
	if registry == nil {
		return m
	}
	registry.MustRegister(m.made, m.failures, m.seconds, m.kept,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ecp_backup_last_success_timestamp_seconds",
			Help: "When the newest backup was made that this node has verified; 0: none. The highest of all nodes counts.",
		}, func() float64 {
			if last := k.newestKnown(); last.Name != "" {
				return float64(last.At.Unix())
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ecp_backup_last_size_bytes", Help: "Size of the newest backup that this node has verified.",
		}, func() float64 { return float64(k.newestKnown().Size) }),
	)
	return m
}
