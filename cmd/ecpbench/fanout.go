package main

import (
	"slices"
	"time"
)

// fanoutFigures are those of changes that were made one at a time.
func fanoutFigures(o *options, samples []sample) []figure {
	per := func(name, unit string, of func(sample) float64) figure {
		return median(name, unit, samples, func(s sample) float64 { return of(s) / float64(s.updates) })
	}
	figures := []figure{
		per("server CPU per update", "us", func(s sample) float64 { return micros(s.cpu.total()) }),
		per("server CPU per update, in the kernel", "us", func(s sample) float64 { return micros(s.cpu.system) }),
		per("bytes to the proxy per update", "B", func(s sample) float64 { return float64(s.traffic.down) }),
		per("bytes from the proxy per update", "B", func(s sample) float64 { return float64(s.traffic.up) }),
	}
	figures = append(figures, quantiles("time until the last proxy has it", "ms", time.Millisecond, samples,
		func(s sample) []time.Duration { return s.last })...)
	if o.fleets == 1 {
		return figures
	}
	figures = append(figures, median("server CPU per change", "us", samples, func(s sample) float64 {
		return micros(s.cpu.total()) / float64(len(s.last))
	}))
	return append(figures, quantiles("time until a fleet has acknowledged it", "ms", time.Millisecond, samples,
		func(s sample) []time.Duration { return s.acked })...)
}

// applyFigures are there for the server that has a state.
func applyFigures(samples []sample) []figure {
	if len(samples[0].idle) == 0 {
		return nil
	}
	return append(
		quantiles("Apply, nothing else", "us", time.Microsecond, samples, func(s sample) []time.Duration { return s.idle }),
		quantiles("Apply, a change being pushed", "us", time.Microsecond, samples, func(s sample) []time.Duration { return s.pushing })...)
}

// quantiles are figures over all rounds.
func quantiles[S any](name, unit string, in time.Duration, samples []S, of func(S) []time.Duration) []figure {
	var all []float64
	for _, s := range samples {
		for _, d := range of(s) {
			all = append(all, float64(d)/float64(in))
		}
	}
	slices.Sort(all)
	return []figure{
		{Name: name + ", p50", Unit: unit, Value: quantile(all, 0.5)},
		{Name: name + ", p99", Unit: unit, Value: quantile(all, 0.99)},
		{Name: name + ", max", Unit: unit, Value: quantile(all, 1)},
	}
}
