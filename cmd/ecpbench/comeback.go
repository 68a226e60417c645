package main

import (
	"context"
	"io"
	"time"
)

// again is what was measured of proxies that came back to another server.
type again struct {
	took   time.Duration // until all were settled
	cpu    cpu
	resent uint64 // bytes of resources
}

// comeBack cuts all streams and has their proxies come back to another process
// that serves the same.
func (t *measurement) comeBack(ctx context.Context, name string, stderr io.Writer) error {
	t.swarm.close()
	t.child.stop()
	o := *t.options
	o.resumed = true
	c, err := startServer(ctx, name, &o, stderr)
	if err != nil {
		return err
	}
	defer c.stop()
	if _, err := c.settle(ctx, o.settle); err != nil {
		return err
	}
	start, err := readCPU(c.cmd.Process.Pid)
	if err != nil {
		return err
	}
	s := t.swarm.again(&o, c.first.Address)
	defer s.close()
	began := time.Now()
	if err := s.connect(ctx, o.parallel); err != nil {
		return err
	}
	t.again.took = time.Since(began)
	if err := c.awaitAcks(ctx, s.acks.Load); err != nil {
		return err
	}
	now, err := readCPU(c.cmd.Process.Pid)
	t.again.cpu, t.again.resent = now.since(start), s.resent.Load()
	return err
}

func againFigures(samples []sample, streams float64) []figure {
	per := func(name, unit string, of func(again) float64) figure {
		return median(name, unit, samples, func(s sample) float64 { return of(s.again) })
	}
	return []figure{
		per("again: time until all are settled", "s", func(a again) float64 { return a.took.Seconds() }),
		per("again: server CPU", "s", func(a again) float64 { return a.cpu.total().Seconds() }),
		per("again: resources sent per proxy", "B", func(a again) float64 { return float64(a.resent) / streams }),
	}
}
