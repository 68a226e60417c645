package main

import (
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// acksMetric counts what proxies accepted.
const acksMetric = "ecp_xds_acks_total"

// ackRegistry is a registry of that metric alone: it is read every few
// milliseconds, and some of the others look at every stream.
type ackRegistry struct{ *prometheus.Registry }

// Register implements prometheus.Registerer.
func (r ackRegistry) Register(c prometheus.Collector) error {
	described := make(chan *prometheus.Desc, 100)
	c.Describe(described)
	close(described)
	for d := range described {
		if strings.Contains(d.String(), `"`+acksMetric+`"`) {
			return r.Registry.Register(c)
		}
	}
	return nil
}

// MustRegister implements prometheus.Registerer.
func (r ackRegistry) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}

// total returns the metric's sum over all labels.
func (r ackRegistry) total() (uint64, error) {
	families, err := r.Gather()
	if err != nil {
		return 0, fmt.Errorf("gather metrics: %w", err)
	}
	var total float64
	for _, f := range families {
		for _, m := range f.GetMetric() {
			total += m.GetCounter().GetValue()
		}
	}
	return uint64(total), nil
}
