package xds

import (
	"time"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Bounds of the verdicts (rejections, recoveries) of one proxy that become
// part of the replicated state: so many at once, one each interval after that.
const (
	paceBurst    = 20
	paceInterval = time.Second
)

// proxyKey names a proxy of a tenant.
type proxyKey struct{ tenant, proxy string }

// pace is how fast a proxy gives verdicts. A client can make the server send
// what it rejects again and again; it must not make the cluster write as often.
type pace struct {
	spent float64 // of the burst
	at    time.Time
	// held are the newest verdicts that are too many, by type.
	held map[string]*fsmpb.ProxyReport
}

// spend uses one verdict of the pace, if there is one.
func (p *pace) spend(now time.Time) bool {
	p.spent = max(0, p.spent-now.Sub(p.at).Seconds()/paceInterval.Seconds())
	p.at = now
	if p.spent > paceBurst-1 {
		return false
	}
	p.spent++
	return true
}

// admit reports whether a verdict may be queued now. One that may not is held
// until it may, or is replaced by a newer one of its type; r.mu is held.
func (r *reporter) admit(url string, v *fsmpb.ProxyReport, now time.Time) bool {
	key := proxyKey{v.Tenant, v.Id}
	p := r.paces[key]
	if p == nil {
		p = &pace{at: now, held: map[string]*fsmpb.ProxyReport{}}
		r.paces[key] = p
	}
	if p.spend(now) {
		delete(p.held, url)
		return true
	}
	if _, ok := p.held[url]; ok || len(p.held) < maxTypes {
		p.held[url] = v
	}
	r.metrics.reports.WithLabelValues("paced").Inc()
	return false
}

// release queues the held verdicts that may go now, and forgets the proxies
// that have been quiet.
func (r *reporter) release(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, p := range r.paces {
		for url, v := range p.held {
			if !p.spend(now) {
				break
			}
			delete(p.held, url)
			r.push(v)
		}
		if len(p.held) == 0 && now.Sub(p.at) > paceBurst*paceInterval {
			delete(r.paces, key)
		}
	}
}
