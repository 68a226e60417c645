package xds

import (
	"slices"
	"time"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// The end of a proxy's last stream is not reported at once: proxies whose
// streams move or are cut come back within moments, and shall not be shown as
// disconnected in between. It is reported as soon as the proxy is seen to have
// another stream, here or on another node, or when the grace is over.

// maxHeld bounds the ends that wait; beyond it they are reported at once.
const maxHeld = 20_000

// hold keeps the report of a stream's end back; r.mu is held. It reports
// whether it does: not when the proxy has another stream.
func (r *reporter) hold(p *fsmpb.ProxyReport) bool {
	key := proxyKey{p.Tenant, p.Id}
	if r.config.ProxyGrace <= 0 || len(r.held) >= maxHeld || r.alive[key] > 0 || r.elsewhere(p) {
		return false
	}
	r.held[key] = append(r.held[key], p)
	time.AfterFunc(r.config.ProxyGrace, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.let(key, p)
	})
	return true
}

// elsewhere reports whether the state has a stream of a proxy on another node.
func (r *reporter) elsewhere(p *fsmpb.ProxyReport) bool {
	return slices.ContainsFunc(r.row(p.Tenant, p.Id).GetStreams(), func(s *fsmpb.Stream) bool {
		return s.Node != r.config.NodeID
	})
}

// let reports an end that waits, all of a proxy's for nil; r.mu is held.
func (r *reporter) let(key proxyKey, only *fsmpb.ProxyReport) {
	var left []*fsmpb.ProxyReport
	for _, p := range r.held[key] {
		if only == nil || p == only {
			r.push(p)
		} else {
			left = append(left, p)
		}
	}
	if len(left) == 0 {
		delete(r.held, key)
	} else {
		r.held[key] = left
	}
}

// letAll reports all ends that wait: the node goes.
func (r *reporter) letAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range r.held {
		r.let(key, nil)
	}
}

func (r *reporter) holds() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.held) > 0
}
