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
	*Swarm              // of fanout and connect
	*Trio               // of the others
	Rounds    int       `json:"rounds"`
	CPUs      int       `json:"cpus"`
	Go        string    `json:"go"`
	Baseline  string    `json:"baseline,omitempty"` // of the ratios
	Servers   []outcome `json:"servers"`
}

// Swarm is what the xDS path alone was measured with.
type Swarm struct {
	Protocol  protocol `json:"protocol"`
	Streams   int      `json:"streams"`
	Fleets    int      `json:"fleets"`
	Clusters  int      `json:"clusters"` // of a fleet
	Endpoints int      `json:"endpoints"`
	Changes   int      `json:"changes,omitempty"` // of a round
	Rate      int      `json:"rate,omitempty"`    // of changes, a second
	Distinct  bool     `json:"distinct,omitempty"`
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
		Benchmark: benchmark, Rounds: o.rounds, CPUs: runtime.NumCPU(), Go: runtime.Version(),
		Swarm: &Swarm{
			Protocol: o.protocol, Streams: o.streams, Fleets: o.fleets, Clusters: o.clusters, Endpoints: o.endpoints,
			Changes: o.changes, Rate: o.rate, Distinct: o.distinct,
		},
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
	switch {
	case o.rate > 0:
		out.Figures = append(rushFigures(o, samples), memoryFigure(samples, n))
		return out
	case o.changes > 0:
		out.Figures = append(fanoutFigures(o, samples), memoryFigure(samples, n))
		out.Figures = append(out.Figures, applyFigures(samples)...)
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
	if o.storm {
		out.Figures = append(out.Figures, quantiles("change of another fleet meanwhile, to ACK", "ms", time.Millisecond, samples,
			func(s sample) []time.Duration { return s.stirred })...)
	}
	if o.drain {
		out.Figures = append(out.Figures, drainFigures(samples, n)...)
	}
	if o.again {
		out.Figures = append(out.Figures, againFigures(samples, n)...)
	}
	return out
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
		for i, f := range o.Figures {
			if to := r.Servers[base].figure(f.Name); to != nil && to.Value > 0 {
				ratio := f.Value / to.Value
				o.Figures[i].Ratio = &ratio
			}
		}
	}
}

// figure returns the figure of a name, nil when there is none.
func (o outcome) figure(name string) *figure {
	for i := range o.Figures {
		if o.Figures[i].Name == name {
			return &o.Figures[i]
		}
	}
	return nil
}

// median is a figure of rounds.
func median[S any](name, unit string, samples []S, of func(S) float64) figure {
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
