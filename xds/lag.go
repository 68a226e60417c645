package xds

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// watchLag registers the gauge of the streams that lag. What a stream lags
// behind with is bounded: of each type the contents that it was sent and is being
// sent, and one frame; they stay in memory until it answers or ends.
func (s *Server) watchLag() {
	if s.deps.Registry == nil {
		return
	}
	s.deps.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ecp_xds_lagging_streams",
		Help: "Streams that have not answered a response for longer than the gate timeout; each keeps what it was sent in memory.",
	}, func() float64 { return float64(s.lagging(time.Now())) }))
}

// lagging counts the streams that have left a response without an answer.
func (s *Server) lagging(now time.Time) int {
	n := 0
	for _, st := range s.tracked() {
		if st.lags(now) {
			n++
		}
	}
	return n
}

func (st *stream) lags(now time.Time) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, t := range st.types {
		if t.out != nil && now.Sub(t.outAt) > st.server.config.GateTimeout {
			return true
		}
	}
	return false
}
