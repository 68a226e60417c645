package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// write prints a result as a table, or as one JSON object.
func (r *result) write(out io.Writer, format string) error {
	if format == "json" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		if err := e.Encode(r); err != nil {
			return fmt.Errorf("write JSON: %w", err)
		}
		return nil
	}
	var text strings.Builder
	r.head(&text)
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	r.table(w)
	_ = w.Flush() // a strings.Builder takes everything
	if _, err := io.WriteString(out, text.String()); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	return nil
}

func (r *result) head(text *strings.Builder) {
	text.WriteString(r.Benchmark)
	if r.Swarm != nil {
		r.Swarm.head(text)
	} else {
		r.Trio.head(text)
	}
	fmt.Fprintf(text, ", %d rounds; %d CPUs for servers and clients, %s\n", r.Rounds, r.CPUs, r.Go)
}

func (s *Swarm) head(text *strings.Builder) {
	fmt.Fprintf(text, ", %s: %d streams", s.Protocol, s.Streams)
	if s.Fleets > 1 {
		fmt.Fprintf(text, " in %d fleets", s.Fleets)
	}
	fmt.Fprintf(text, ", %d clusters of %d endpoints", s.Clusters, s.Endpoints)
	if s.Changes > 0 {
		fmt.Fprintf(text, ", %d changes a round", s.Changes)
	}
	if s.Rate > 0 {
		fmt.Fprintf(text, " at %d a second", s.Rate)
	}
	if s.Distinct {
		text.WriteString(", each proxy with a name of its own")
	}
}

// table writes a row for each figure: the servers' values, then their ratios.
func (r *result) table(w io.Writer) {
	width := len("updates delivered and acknowledged")
	for _, f := range r.longest() {
		width = max(width, len(f.Name))
	}
	row := func(cells []string) {
		cells[0] = fmt.Sprintf("%-*s", width, cells[0]) // names to the left, numbers to the right
		_, _ = fmt.Fprintln(w, strings.Join(cells, "\t")+"\t")
	}
	cells := []string{"", ""}
	for _, o := range r.Servers {
		cells = append(cells, o.Server)
	}
	for _, o := range r.compared() {
		cells = append(cells, o.Server+"/"+r.Baseline)
	}
	row(cells)
	for _, f := range r.longest() {
		cells := []string{f.Name, f.Unit}
		for _, o := range r.Servers {
			cells = append(cells, value(o.figure(f.Name)))
		}
		for _, o := range r.compared() {
			cells = append(cells, ratio(o.figure(f.Name)))
		}
		row(cells)
	}
	if r.Swarm == nil {
		return
	}
	row(r.spread())
	if r.Changes == 0 || r.Rate > 0 {
		return
	}
	updates, extra := []string{"updates delivered and acknowledged", ""}, []string{"responses beyond them", ""}
	for _, o := range r.Servers {
		updates, extra = append(updates, fmt.Sprint(o.Updates)), append(extra, fmt.Sprint(o.Extra))
	}
	row(updates)
	row(extra)
}

// spread is how far apart the rounds were in the server's CPU: on a machine
// that does nothing else, not far.
func (r *result) spread() []string {
	at := slices.IndexFunc(r.Servers[0].Figures, func(f figure) bool { return strings.HasPrefix(f.Name, "server CPU") })
	cells := []string{"server CPU, lowest to highest round", r.Servers[0].Figures[at].Unit}
	lowest := map[string]float64{}
	for _, o := range r.Servers {
		rounds := o.Figures[at].Rounds
		lowest[o.Server] = slices.Min(rounds)
		cells = append(cells, short(slices.Min(rounds))+"-"+short(slices.Max(rounds)))
	}
	for _, o := range r.compared() { // of the lowest: a disturbed round is only ever higher
		cells = append(cells, short(lowest[o.Server]/lowest[r.Baseline]))
	}
	return cells
}

// longest are the figures of the server that has most.
func (r *result) longest() (figures []figure) {
	for _, o := range r.Servers {
		if len(o.Figures) > len(figures) {
			figures = o.Figures
		}
	}
	return figures
}

// compared are the servers that have ratios to show.
func (r *result) compared() []outcome {
	var out []outcome
	for _, o := range r.Servers {
		if r.Baseline != "" && o.Server != r.Baseline {
			out = append(out, o)
		}
	}
	return out
}

// short is a value with about three digits.
func short(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// value is a figure's, "-" for none.
func value(f *figure) string {
	if f == nil {
		return "-"
	}
	return short(f.Value)
}

func ratio(f *figure) string {
	if f == nil || f.Ratio == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f", *f.Ratio)
}
