package rollup

import (
	"errors"
	"fmt"
	"strings"
)

// DefaultAllow are the names that are kept when nothing else is said: with them
// come load, errors, latency and health of an Envoy, of its listeners' HTTP and of
// each of its clusters. They are Envoy's, with the tags taken out.
func DefaultAllow() []string {
	return []string{
		"cluster.membership_healthy", "cluster.membership_total",
		"cluster.upstream_cx_active", "cluster.upstream_cx_connect_fail",
		"cluster.upstream_rq_pending_overflow", "cluster.upstream_rq_retry", "cluster.upstream_rq_time",
		"cluster.upstream_rq_timeout", "cluster.upstream_rq_total", "cluster.upstream_rq_xx",
		"http.downstream_cx_active", "http.downstream_rq_time", "http.downstream_rq_total", "http.downstream_rq_xx",
		"server.days_until_first_cert_expiring", "server.live", "server.memory_allocated", "server.uptime",
	}
}

// Bounds of an allow list.
const (
	maxAllowed = 1000
	maxName    = 512 // bytes
)

// CheckAllow returns why patterns cannot be an allow list.
func CheckAllow(patterns []string) error {
	var wrong []error
	if len(patterns) > maxAllowed {
		wrong = append(wrong, fmt.Errorf("%d names, at most %d are taken", len(patterns), maxAllowed))
	}
	for _, p := range patterns {
		if p == "" || len(p) > maxName || strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			wrong = append(wrong, fmt.Errorf("%.80q cannot be a metric's name", p))
		}
	}
	return errors.Join(wrong...)
}

// allowList says which names are kept.
type allowList struct {
	names map[string]struct{}
	globs []glob
}

func newAllowList(patterns []string) *allowList {
	a := &allowList{names: map[string]struct{}{}}
	for _, p := range patterns {
		if strings.Contains(p, "*") {
			a.globs = append(a.globs, strings.Split(p, "*"))
		} else {
			a.names[p] = struct{}{}
		}
	}
	return a
}

func (a *allowList) allows(name []byte) bool {
	if _, ok := a.names[string(name)]; ok {
		return true
	}
	if len(a.globs) == 0 {
		return false
	}
	text := string(name)
	for _, g := range a.globs {
		if g.matches(text) {
			return true
		}
	}
	return false
}

// glob is a pattern, cut at its stars: two parts at least.
type glob []string

func (g glob) matches(s string) bool {
	first, last := g[0], g[len(g)-1]
	if len(s) < len(first)+len(last) || !strings.HasPrefix(s, first) || !strings.HasSuffix(s, last) {
		return false
	}
	s = s[len(first) : len(s)-len(last)]
	for _, part := range g[1 : len(g)-1] {
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return true
}
