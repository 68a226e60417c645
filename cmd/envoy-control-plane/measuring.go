package main

import (
	"slices"

	"github.com/org/envoy-control-plane/archive/rollup"
	"github.com/org/envoy-control-plane/xds"
)

// noMetrics as --proxy-metrics keeps none.
const noMetrics = "none"

// keepsMetrics reports whether the node keeps what proxies measure.
func (c *config) keepsMetrics() bool {
	return c.databaseURL != "" && !slices.Equal(c.proxyMetrics, []string{noMetrics})
}

func newMetrics(c *config, s *server) (*rollup.Collector, error) {
	allow := c.proxyMetrics
	if len(allow) == 0 {
		allow = rollup.DefaultAllow()
	}
	return rollup.New(rollup.Config{
		DatabaseURL: c.databaseURL, Node: c.nodeID, Allow: allow, Interval: c.proxyMetricsInterval,
	}, rollup.Deps{
		Log: s.log.With("part", "metrics"), Registry: s.registry,
		Cluster: func() string { return s.cluster.State().Identity().GetClusterId() },
	})
}

// measuring hands proxies' streams of metrics to the roll-up.
type measuring struct{ collector *rollup.Collector }

// Open implements xds.Metrics.
func (m measuring) Open(tenant, fleet, proxy string) (xds.MetricStream, error) {
	stream, err := m.collector.Open(tenant, fleet, proxy)
	if err != nil {
		return nil, err //nolint:wrapcheck // the proxy is told
	}
	return stream, nil
}
