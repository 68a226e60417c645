package xds

import "time"

// lagging counts the streams that have left a response without an answer. What a
// stream lags behind with is bounded: of each type the contents that it was sent
// and is being sent, and one frame; they stay in memory until it answers or ends.
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
