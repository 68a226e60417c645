package xds

import (
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// retry sends what a proxy rejected once more, as an operator asks: what made
// it reject may have been mended outside of its configuration.
func (s *Server) retry(q *fsmpb.RetryQuery) *fsmpb.RetryAnswer {
	a := &fsmpb.RetryAnswer{}
	for _, st := range s.hub.proxies(q.GetTenant(), []string{q.GetProxy()}) {
		n := st.retry(q.GetTypeUrl())
		if n == 0 {
			continue
		}
		a.Retried += uint32(n)
		s.log.Info("rejected responses are tried again", "tenant", st.id.Tenant, "fleet", st.id.Fleet,
			"proxy", st.id.Proxy, "responses", n)
		st.pump(false)
	}
	return a
}

// retry takes the parked responses of a type, of all for "", out of parking
// and returns how many. The rejections stay on record until they are answered.
func (st *stream) retry(url string) int {
	st.mu.Lock()
	defer st.mu.Unlock()
	n := 0
	for _, t := range st.types {
		if t.parked != nil && (url == "" || url == t.kind.url) {
			t.parked = nil
			n++
		}
	}
	return n
}
