package xds

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics holds the collectors of one Server.
type metrics struct {
	waiting    prometheus.Gauge
	atDoor     prometheus.Gauge
	fairShare  prometheus.Gauge
	moved      prometheus.Counter
	streams    *prometheus.GaugeVec
	pushes     *prometheus.CounterVec
	pushBytes  *prometheus.CounterVec
	acks       *prometheus.CounterVec
	rejections *prometheus.CounterVec
	pushToAck  *prometheus.HistogramVec
	encoded    prometheus.Counter
	reports    *prometheus.CounterVec
}

// kindMetrics are the collectors of one type, looked up once.
type kindMetrics struct {
	pushes, pushBytes, acks, rejections prometheus.Counter
	pushToAck                           prometheus.Observer
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ecp_xds_streams", Help: "Open xDS streams.",
		}, []string{"protocol"}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ecp_xds_streams_waiting", Help: "New xDS streams that wait to be taken in.",
		}),
		atDoor: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ecp_xds_connections_waiting", Help: "New connections that wait to be greeted.",
		}),
		fairShare: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ecp_xds_fair_share", Help: "xDS streams that each node would have if all had as many.",
		}),
		moved: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ecp_xds_moved_total", Help: "Streams that were ended to move them to other nodes.",
		}),
		pushes:     counter("ecp_xds_pushes_total", "Responses handed to streams.", "type"),
		pushBytes:  counter("ecp_xds_push_bytes_total", "Bytes of responses handed to streams.", "type"),
		acks:       counter("ecp_xds_acks_total", "Responses that proxies accepted.", "type"),
		rejections: counter("ecp_xds_rejections_total", "Responses that proxies rejected.", "type"),
		pushToAck: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ecp_xds_push_to_ack_seconds", Help: "From sending a response to its ACK.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 15},
		}, []string{"type"}),
		encoded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ecp_xds_frames_encoded_total", Help: "Distinct responses encoded; streams share them.",
		}),
		reports: counter("ecp_xds_reports_total", "Proxy reports by outcome.", "outcome"),
	}
	if reg != nil {
		reg.MustRegister(m.streams, m.moved, m.fairShare, m.waiting, m.atDoor, m.pushes, m.pushBytes, m.acks, m.rejections, m.pushToAck, m.encoded, m.reports)
	}
	return m
}

// registerGauges registers the gauges that are read off the server when asked for.
func (s *Server) registerGauges() {
	if s.deps.Registry == nil {
		return
	}
	gauge := func(name, help string, read func() float64) {
		s.deps.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
	}
	gauge("ecp_xds_stale", "1 while proxies are served a state that may be stale: the node has found no majority since its start.",
		func() float64 { return float64(min(s.stale.Load(), 1)) })
	gauge("ecp_xds_secrets_unopened", "Secrets that proxies ask for and that this node cannot open.",
		func() float64 { return float64(s.ShutSecrets()) })
	gauge("ecp_xds_lagging_streams", "Streams that have not answered a response for longer than the gate timeout; each keeps what it was sent in memory.",
		func() float64 { return float64(s.lagging(time.Now())) })
}

func (m *metrics) of(kind string) kindMetrics {
	return kindMetrics{
		pushes:     m.pushes.WithLabelValues(kind),
		pushBytes:  m.pushBytes.WithLabelValues(kind),
		acks:       m.acks.WithLabelValues(kind),
		rejections: m.rejections.WithLabelValues(kind),
		pushToAck:  m.pushToAck.WithLabelValues(kind),
	}
}
