package cluster

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkPropose writes from 64 clients through the three nodes of a cluster.
func BenchmarkPropose(b *testing.B) {
	sites := newSites(b, 3, nil)
	upAll(sites)
	awaitReady(b, sites...)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for w := range 64 {
		wg.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(b.N) {
					return
				}
				r, err := sites[w%3].node.Propose(context.Background(), putTenant(fmt.Sprintf("t%d", i)))
				if err != nil || r.Code != "" {
					b.Errorf("%v, %v", r, err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
}
