package xds

import (
	"strings"
	"time"
)

// waitingFor says in words what the stream waits for; empty when it waits for
// nothing. st.mu is held.
func (st *stream) waitingFor(now time.Time) string {
	var waits []string
	switch v := st.scope.view.Load(); {
	case v == nil:
		waits = append(waits, "fleet: its first revision")
	case st.begins(v, now):
		waits = append(waits, "stream: the rest of its types")
	}
	for _, t := range st.types {
		switch {
		case t.out != nil && now.Sub(t.outAt) >= st.server.config.GateTimeout && t.kind.role != roleFree:
			waits = append(waits, t.kind.name+": acknowledgement (its gate has opened by timeout)")
		case t.out != nil:
			waits = append(waits, t.kind.name+": acknowledgement")
		case st.server.stale.Load() > 0 && t.acked == nil && (t.claim != "" || t.resumed):
			waits = append(waits, t.kind.name+": a majority of the control plane, what the proxy has may be newer")
		case t.parked != nil:
			waits = append(waits, t.kind.name+": other content, this one was rejected")
		case t.candidate.frame != nil:
			waits = append(waits, t.kind.name+": to be sent after what comes before it")
		case t.sent != nil && t.sent.base != t.sent:
			waits = append(waits, t.kind.name+": removals")
		}
	}
	return strings.Join(waits, "; ")
}
