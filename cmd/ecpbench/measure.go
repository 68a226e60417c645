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
				return fmt.Errorf("profile: %s: %w", name, err)
			}
		}
	}
	return summarize(benchmark, o, samples).write(a.out, o.output)
}

// rounds gives every server its turns.
func (a *app) rounds(ctx context.Context, o *options) (map[string][]sample, error) {
	return inTurns(a, o.rounds, o.servers, func(name string) (sample, error) { return turn(ctx, name, o, a.err) },
		func(s sample) string { return "connected in " + seconds(s.connected) + s.glance() })
}

// inTurns gives each name its turn in every round and returns what they brought.
// Every other round goes backwards, so that nobody is always first on a machine that
// warms up.
func inTurns[S any](a *app, rounds int, names []string, turn func(name string) (S, error), glance func(S) string) (map[string][]S, error) {
	samples := map[string][]S{}
	for round := range rounds {
		order := slices.Clone(names)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, name := range order {
			s, err := turn(name)
			if err != nil {
				return nil, fmt.Errorf("round %d: %s: %w", round+1, name, err)
			}
			a.note("round %d/%d %s: %s", round+1, rounds, name, glance(s))
			samples[name] = append(samples[name], s)
		}
	}
	return samples, nil
}
