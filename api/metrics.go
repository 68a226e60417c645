package api

import (
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/org/envoy-control-plane/api/feed"
)

// metrics of the API. Their names are those of the original plan.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	active   prometheus.Gauge

	deliveries prometheus.Counter
	cut        *prometheus.CounterVec

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

func newMetrics(reg prometheus.Registerer, hub *feed.Hub) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "http_requests_total",
			Help: "REST requests answered, by method, path template and status.",
		}, []string{"method", "path", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "http_request_duration_seconds",
			Help:    "Time to answer a REST request; waits and streams are left out.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"method", "path"}),
		active: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "http_connections_active",
			Help: "Open client connections of the REST API.",
		}),
		deliveries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ecp_event_deliveries_total",
			Help: "Events written to subscribers.",
		}),
		cut: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ecp_event_subscribers_cut_total",
			Help: "Event streams that the node ended, by the code that it said.",
		}, []string{"reason"}),
		conns: map[net.Conn]struct{}{},
	}
	if reg == nil {
		return m, nil
	}
	subscribers := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ecp_event_subscribers",
		Help: "Open event streams, server-sent events and WebSocket.",
	}, func() float64 { return float64(hub.Readers()) })
	var errs []error
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.active, m.deliveries, m.cut, subscribers} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

// connState follows a connection from its first byte to its end.
func (m *metrics) connState(c net.Conn, state http.ConnState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch state {
	case http.StateNew:
		m.conns[c] = struct{}{}
	case http.StateClosed, http.StateHijacked:
		delete(m.conns, c)
	}
	m.active.Set(float64(len(m.conns)))
}

// observe counts an answered request. What came without a route shares one
// path, and unknown methods one method, so that clients cannot make series.
func (m *metrics) observe(c *call, status int, took time.Duration) {
	path, method := "unmatched", c.r.Method
	if c.route != nil {
		path = c.route.Pattern
	}
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete,
		http.MethodOptions, http.MethodPatch:
	default:
		method = "other"
	}
	m.requests.WithLabelValues(method, path, strconv.Itoa(status)).Inc()
	if !c.waits {
		m.seconds.WithLabelValues(method, path).Observe(took.Seconds())
	}
}
