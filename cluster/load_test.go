package cluster

import (
	"sync/atomic"
	"testing"
	"time"
)

// Every node learns what the others have to do, and who takes no streams.
func TestLoadsTravel(t *testing.T) {
	t.Parallel()
	var draining atomic.Bool
	sites := newSites(t, 3, func(i int, _ *Config, d *Deps) {
		d.Streams = func() int { return 100 + i }
		if i == 2 {
			d.Draining = draining.Load
		}
	})
	upAll(sites)
	awaitReady(t, sites...)
	knows := func(s *site, lastOpen bool) bool {
		found := 0
		for _, l := range s.node.Loads() {
			for i, other := range sites {
				if l.Node == other.cfg.NodeID && l.Streams == 100+i && l.Open == (lastOpen || i != 2) {
					found++
				}
			}
		}
		return found == len(sites)
	}
	for _, open := range []bool{true, false, true} {
		draining.Store(!open)
		for _, s := range sites {
			eventually(t, 20*time.Second, s.cfg.NodeID+" knows all loads", func() bool { return knows(s, open) })
		}
	}
}
