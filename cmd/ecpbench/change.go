package main

import (
	"context"
	"fmt"
)

// change makes one change and waits until all its proxies have acknowledged it
// and, where the next goes to the same ones, the server has read that.
func (t *measurement) change(ctx context.Context, n int) (*wave, error) {
	w := t.swarm.expect(n)
	if _, err := t.child.order(order{Do: "change", Change: n}); err != nil {
		return nil, err
	}
	return w, t.settled(ctx, w)
}

func (t *measurement) settled(ctx context.Context, w *wave) error {
	if err := t.swarm.await(ctx, w.done); err != nil {
		return fmt.Errorf("%d proxies have not got it: %w", w.missing.Load(), err)
	}
	if t.options.fleets > 1 {
		return nil
	}
	return t.child.awaitAcks(ctx, t.swarm.acks.Load)
}

// apply times applies, first while nothing happens, then while changes are
// pushed.
func (t *measurement) apply(ctx context.Context) error {
	a, err := t.child.order(order{Do: "apply", Count: applyCount})
	if err != nil {
		return err
	}
	t.idle = a.Applies
	for n := warmUp + t.options.changes + 1; n <= maxSpare+t.options.changes; n++ {
		w := t.swarm.expect(n)
		if _, err := t.child.order(order{Do: "change", Change: n}); err != nil {
			return err
		}
		a, err := t.child.order(order{Do: "apply", Count: applyCount / pushes})
		if err != nil {
			return err
		}
		t.pushing = append(t.pushing, a.Applies...)
		if err := t.settled(ctx, w); err != nil {
			return err
		}
	}
	return nil
}
