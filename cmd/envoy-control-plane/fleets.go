package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/org/envoy-control-plane/fsm"
)

// maxFleetSeries is how many fleets have series of their own. Those behind
// them, by tenant and name, share the series of fleet "" of tenant "".
const maxFleetSeries = 1000

// fleetCollector counts fleets and their proxies in the replicated state, so
// that every node tells the same. A look costs a walk over all proxies.
type fleetCollector struct {
	state                     func() *fsm.State
	fleets, revision, proxies *prometheus.Desc
}

func newFleetCollector(state func() *fsm.State) *fleetCollector {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &fleetCollector{
		state:    state,
		fleets:   d("ecp_fleets", "Fleets of all tenants."),
		revision: d("ecp_fleet_revision", "Current revision of a fleet.", "tenant", "fleet"),
		proxies: d("ecp_fleet_proxies", "Known proxies of a fleet by status; a rejected one is connected and has not accepted what it rejected.",
			"tenant", "fleet", "status"),
	}
}

// Describe implements prometheus.Collector.
func (f *fleetCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- f.fleets
	ch <- f.revision
	ch <- f.proxies
}

type fleetKey struct{ tenant, fleet string }

// count is how many proxies of a fleet are in each status.
type count struct{ connected, disconnected, rejected int }

// Collect implements prometheus.Collector.
func (f *fleetCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	st := f.state()
	counts := map[fleetKey]*count{}
	fleets := 0
	for t := range st.Tenants("") {
		for fl := range st.Fleets(t.Name, "") {
			if fleets++; fleets <= maxFleetSeries {
				counts[fleetKey{t.Name, fl.Name}] = &count{}
				gauge(f.revision, float64(fl.Revision), t.Name, fl.Name)
			}
		}
	}
	gauge(f.fleets, float64(fleets))
	f.countProxies(st, counts)
	for key, n := range counts {
		gauge(f.proxies, float64(n.connected), key.tenant, key.fleet, "connected")
		gauge(f.proxies, float64(n.disconnected), key.tenant, key.fleet, "disconnected")
		gauge(f.proxies, float64(n.rejected), key.tenant, key.fleet, "rejected")
	}
}

// countProxies adds each proxy to its fleet; those of fleets without series,
// and of fleets that do not exist yet, to the common rest.
func (f *fleetCollector) countProxies(st *fsm.State, counts map[fleetKey]*count) {
	rest := &count{}
	counts[fleetKey{}] = rest
	for p := range st.AllProxies() {
		n := counts[fleetKey{p.Tenant, p.Fleet}]
		if n == nil {
			n = rest
		}
		switch {
		case len(p.Streams) == 0:
			n.disconnected++
		case len(p.Rejections) > 0:
			n.rejected++
		default:
			n.connected++
		}
	}
}
