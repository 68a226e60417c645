package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"
)

// drained is what was measured of proxies that a server handed over to another.
type drained struct {
	took   time.Duration   // until all were settled there
	gaps   []time.Duration // of each proxy, from the end of its stream to the last answer on its next
	resent uint64          // bytes of resources
}

// takeover is the other server's swarm, proxy by proxy.
type takeover struct {
	swarm *swarm
	left  sync.WaitGroup // proxies that have not come over

	mu   sync.Mutex
	gaps []time.Duration
}

// follow is the life of a proxy on the other server.
func (o *takeover) follow(ctx context.Context, i int) error {
	began := time.Now()
	settled := sync.OnceFunc(func() {
		gap := time.Since(began)
		o.mu.Lock()
		o.gaps = append(o.gaps, gap)
		o.mu.Unlock()
		o.left.Done()
	})
	return o.swarm.proxies[i].run(ctx, settled)
}

// handOver drains the server; its proxies go on, with what they have, to
// another process that serves the same. A server that cannot drain stops.
func (t *measurement) handOver(ctx context.Context, name string) error {
	o := *t.options
	o.resumed = true
	other, err := startServer(ctx, name, &o, os.Stderr)
	if err != nil {
		return err
	}
	defer other.stop()
	over := &takeover{swarm: t.swarm.again(&o, other.first.Address)}
	over.left.Add(o.streams)
	t.swarm.takeover.Store(over)
	began := time.Now()
	if _, err := t.child.order(order{Do: "drain"}); err != nil {
		return err
	}
	all := make(chan struct{})
	go func() { over.left.Wait(); close(all) }()
	if err := t.swarm.await(ctx, all); err != nil {
		return fmt.Errorf("%d of %d proxies came over: %w", len(over.gaps), o.streams, err)
	}
	t.drained = drained{time.Since(began), over.gaps, over.swarm.resent.Load()}
	t.swarm.close() // before the other server ends
	return nil
}

func drainFigures(samples []sample, streams float64) []figure {
	figures := []figure{
		median("drain: time until all are settled", "s", samples, func(s sample) float64 { return s.drained.took.Seconds() }),
		median("drain: resources sent per proxy", "B", samples, func(s sample) float64 { return float64(s.drained.resent) / streams }),
	}
	return append(figures, quantiles("drain: a proxy without a settled stream", "ms", time.Millisecond, samples,
		func(s sample) []time.Duration { return s.drained.gaps })...)
}
