package main

import (
	"context"
	"fmt"
	"slices"
)

// measure runs a benchmark and prints its result.
func (a *app) measure(ctx context.Context, benchmark string, o *options) error {
	if err := o.check(); err != nil {
		return err
	}
	a.started = true
	if err := o.makeProfileDir(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, errTimeout)
	defer cancel()
	samples, err := a.rounds(ctx, o)
	if err != nil {
		return err
	}
	if o.profile != "" {
		a.note("profiles: in %s", o.profile)
		for _, name := range o.servers {
			if _, err := turn(ctx, name, o.forProfile(), a.err); err != nil {
				return fmt.Errorf("profile: %w", err)
			}
		}
	}
	return summarize(benchmark, o, samples).write(a.out, o.output)
}

// rounds gives every server its turn in every round. Every other round goes
// backwards, so that nobody is always first on a machine that warms up.
func (a *app) rounds(ctx context.Context, o *options) (map[string][]sample, error) {
	samples := map[string][]sample{}
	for round := range o.rounds {
		order := slices.Clone(o.servers)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, name := range order {
			s, err := turn(ctx, name, o, a.err)
			if err != nil {
				return nil, fmt.Errorf("round %d: %w", round+1, err)
			}
			a.note("round %d/%d %s: connected in %s%s", round+1, o.rounds, name, seconds(s.connected), s.glance())
			samples[name] = append(samples[name], s)
		}
	}
	return samples, nil
}
