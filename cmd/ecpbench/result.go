package main

import (
	"fmt"
	"runtime"
	"slices"
	"time"
)

// result is what a run prints. Figures of a server are in the order of the
// table.
type result struct {
	Benchmark string    `json:"benchmark"`
	Protocol  protocol  `json:"protocol"`
	Streams   int       `json:"streams"`
	Clusters  int       `json:"clusters"`
	Endpoints int       `json:"endpoints"`
	Rounds    int       `json:"rounds"`
	Changes   int       `json:"changes,omitempty"` // of a round
	CPUs      int       `json:"cpus"`
	Go        string    `json:"go"`
	Baseline  string    `json:"baseline,omitempty"` // of the ratios
	Servers   []outcome `json:"servers"`
}

// outcome is what was measured of one server.
type outcome struct {
	Server string `json:"server"`
	// Updates were delivered and acknowledged, as the server counts them,
	// in all rounds. Extra are responses beyond them.
	Updates uint64   `json:"updates,omitempty"`
	Extra   uint64   `json:"extra,omitempty"`
	Figures []figure `json:"figures"`
}

// figure is one measured quantity. Of quantities of a round, value is the
// median of the rounds, which follow; of those over all changes of all rounds
// there is just the value.
type figure struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Value  float64   `json:"value"`
	Ratio  *float64  `json:"ratio,omitempty"`
	Rounds []float64 `json:"rounds,omitempty"`
}

func summarize(benchmark string, o *options, samples map[string][]sample) *result {
	r := &result{
		Benchmark: benchmark, Protocol: o.protocol, Streams: o.streams, Clusters: o.clusters, Endpoints: o.endpoints,
		Rounds: o.rounds, Changes: o.changes, CPUs: runtime.NumCPU(), Go: runtime.Version(),
	}
	for _, name := range o.servers {
		r.Servers = append(r.Servers, outcomeOf(name, o, samples[name]))
	}
	r.compare("b0")
	return r
}

func outcomeOf(name string, o *options, samples []sample) outcome {
	out := outcome{Server: name}
	for _, s := range samples {
		out.Updates += s.updates
		out.Extra += s.extra
	}
	n := float64(o.streams)
	if o.changes > 0 {
		out.Figures = append(out.Figures, fanoutFigures(samples)...)
		out.Figures = append(out.Figures, memoryFigure(samples, n))
		return out
	}
	out.Figures = []figure{
		median("time until all are configured", "s", samples, func(s sample) float64 { return s.connected.Seconds() }),
		median("server CPU", "s", samples, func(s sample) float64 { return s.connectCPU.total().Seconds() }),
		median("server CPU, in the kernel", "s", samples, func(s sample) float64 { return s.connectCPU.system.Seconds() }),
		median("server CPU per proxy", "us", samples, func(s sample) float64 { return micros(s.connectCPU.total()) / n }),
		median("memory per proxy, peak", "KiB", samples, func(s sample) float64 { return float64(s.peak) / 1024 / n }),
		memoryFigure(samples, n),
	}
	return out
}

func fanoutFigures(samples []sample) []figure {
	per := func(name, unit string, of func(sample) float64) figure {
		return median(name, unit, samples, func(s sample) float64 { return of(s) / float64(s.updates) })
	}
	var last []float64
	for _, s := range samples {
		for _, d := range s.last {
			last = append(last, float64(d)/float64(time.Millisecond))
		}
	}
	slices.Sort(last)
	return []figure{
		per("server CPU per update", "us", func(s sample) float64 { return micros(s.cpu.total()) }),
		per("server CPU per update, in the kernel", "us", func(s sample) float64 { return micros(s.cpu.system) }),
		{Name: "time until the last proxy has it, p50", Unit: "ms", Value: quantile(last, 0.5)},
		{Name: "time until the last proxy has it, p99", Unit: "ms", Value: quantile(last, 0.99)},
		{Name: "time until the last proxy has it, max", Unit: "ms", Value: quantile(last, 1)},
		per("bytes to the proxy per update", "B", func(s sample) float64 { return float64(s.traffic.down) }),
		per("bytes from the proxy per update", "B", func(s sample) float64 { return float64(s.traffic.up) }),
	}
}

func memoryFigure(samples []sample, streams float64) figure {
	return median("memory per idle proxy", "KiB", samples, func(s sample) float64 { return float64(s.grown) / 1024 / streams })
}

// compare adds the ratios to one of the servers.
func (r *result) compare(baseline string) {
	base := slices.IndexFunc(r.Servers, func(o outcome) bool { return o.Server == baseline })
	if base < 0 {
		return
	}
	r.Baseline = baseline
	for _, o := range r.Servers {
		for i := range o.Figures {
			if to := r.Servers[base].Figures[i].Value; to > 0 {
				ratio := o.Figures[i].Value / to
				o.Figures[i].Ratio = &ratio
			}
		}
	}
}

// median is a figure of rounds.
func median(name, unit string, samples []sample, of func(sample) float64) figure {
	f := figure{Name: name, Unit: unit}
	for _, s := range samples {
		f.Rounds = append(f.Rounds, of(s))
	}
	sorted := slices.Sorted(slices.Values(f.Rounds))
	if n := len(sorted); n > 0 {
		f.Value = (sorted[(n-1)/2] + sorted[n/2]) / 2
	}
	return f
}

// quantile is the smallest value that the share q of sorted values does not
// exceed.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	i := int(q*float64(len(sorted))+0.999999) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// glance is a turn's updates in short, empty when there were none.
func (s sample) glance() string {
	if s.updates == 0 {
		return ""
	}
	return fmt.Sprintf(", %.1f us CPU per update", micros(s.cpu.total())/float64(s.updates))
}
