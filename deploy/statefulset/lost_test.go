//go:build deploy

package statefulset

import (
	"fmt"
	"time"

	"github.com/org/envoy-control-plane/deploy/namespace"
)

// unnoticed is how long Kubernetes does not notice that a machine is lost. By
// default it takes 40 s until no service leads there, and five minutes more
// until the pod is started elsewhere.
const unnoticed = 15 * time.Second

// vanish is the end of the pod's machine: nothing is heard of it any more, not
// even that its connections are closed. Kubernetes does not know yet.
func (p *pod) vanish() error {
	p.set.trace.Note("%s (%s): its machine vanishes", p.name, p.ip)
	err := p.set.bridge.Tell(p.ip, namespace.Nowhere)
	for _, other := range p.set.all() {
		if other != p && err == nil {
			err = other.host.Tell(p.ip, namespace.Nowhere)
		}
	}
	if err != nil {
		return fmt.Errorf("cut off %s: %w", p.name, err)
	}
	close(p.lost)
	return nil
}

// bury is when Kubernetes gives the pod of a lost machine up.
func (p *pod) bury() {
	p.mu.Lock()
	p.ending, p.since = true, time.Time{}
	p.mu.Unlock()
	close(p.buried)
	<-p.gone
}
