package main

import (
	"context"
	"fmt"
	"time"
)

// flood is what was measured of changes that came at a rate.
type flood struct {
	took     time.Duration // until the last change was written
	acks     uint64        // responses delivered and acknowledged
	cpu      cpu
	late     time.Duration // from the last write until the last proxy had it
	resident []uint64      // bytes, over time
}

// rush has changes written at a rate, until the last proxy has the last one.
func (t *measurement) rush(ctx context.Context) error {
	if err := t.warm(ctx); err != nil {
		return err
	}
	start, err := readCPU(t.child.cmd.Process.Pid)
	if err != nil {
		return err
	}
	acks := t.swarm.acks.Load()
	if err := t.startProfile("cpu"); err != nil {
		return err
	}
	w := t.swarm.expect(warmUp + t.options.changes) // the last one
	watched, stop := context.WithCancel(ctx)
	samples := make(chan []uint64, 1)
	go func() { samples <- t.watchMemory(watched) }()
	a, err := t.child.order(order{Do: "changes", Change: warmUp + 1, Count: t.options.changes, Rate: t.options.rate})
	if err == nil {
		err = t.settled(ctx, w)
	}
	stop()
	t.flood.resident = <-samples
	if err != nil {
		return fmt.Errorf("changes at a rate: %w", err)
	}
	if t.flood.cpu, err = t.used(start); err != nil {
		return err
	}
	t.endProfile()
	t.flood.acks = t.swarm.acks.Load() - acks
	t.flood.took = time.Unix(0, a.Last).Sub(w.began)
	t.flood.late = max(0, time.Duration(w.last.Load())-t.flood.took)
	return nil
}

// watchMemory reads the server's resident bytes until the context ends.
func (t *measurement) watchMemory(ctx context.Context) (resident []uint64) {
	for pause(ctx, memoryEvery) == nil {
		if m, err := readMemory(t.child.cmd.Process.Pid); err == nil { // a dead process is found out elsewhere
			resident = append(resident, m.resident)
		}
	}
	return resident
}

func rushFigures(o *options, samples []sample) []figure {
	per := func(name, unit string, of func(flood) float64) figure {
		return median(name, unit, samples, func(s sample) float64 { return of(s.flood) })
	}
	mib := func(bytes uint64) float64 { return float64(bytes) / (1 << 20) }
	part := func(f flood, share float64) float64 {
		if len(f.resident) == 0 {
			return 0
		}
		return mib(f.resident[int(share*float64(len(f.resident)-1))])
	}
	deliveries := float64(o.changes) * float64(o.streams)
	return []figure{
		per("changes written per second", "", func(f flood) float64 { return float64(o.changes) / f.took.Seconds() }),
		per("updates acknowledged per second", "", func(f flood) float64 { return float64(f.acks) / (f.took + f.late).Seconds() }),
		per("changes in an update", "", func(f flood) float64 { return deliveries / float64(f.acks) }),
		per("server CPU per update", "us", func(f flood) float64 { return micros(f.cpu.total()) / float64(f.acks) }),
		per("from the last write to the last proxy", "ms", func(f flood) float64 { return f.late.Seconds() * 1000 }),
		per("resident memory after a tenth", "MiB", func(f flood) float64 { return part(f, 0.1) }),
		per("resident memory after a half", "MiB", func(f flood) float64 { return part(f, 0.5) }),
		per("resident memory at the end", "MiB", func(f flood) float64 { return part(f, 1) }),
	}
}
