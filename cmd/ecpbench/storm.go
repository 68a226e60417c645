package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"
)

// In a storm there are two fleets: that of the proxies which all come at once,
// and that of some bystanders which were there before, and of which a change
// begins every stirEvery, or when the one before is done.
const (
	stormFleets  = 2
	bystandFleet = 1
	bystanders   = 10
	stirEvery    = 50 * time.Millisecond
)

// storm watches what it does to proxies that are connected already: changes of
// their fleet are timed from commit to acknowledgement by all of them.
type storm struct {
	child *child
	swarm *swarm // of the bystanders
	// crowd is the process of those that come, which would hold up the
	// bystanders in one process; nil before that.
	crowd *child
	took  []time.Duration
}

func newStorm(o *options, c *child) *storm {
	few := *o
	few.streams = stormFleets * bystanders
	s := newSwarm(&few, c.first.Address)
	s.proxies = slices.DeleteFunc(s.proxies, func(p *proxy) bool { return p.fleet != bystandFleet })
	for _, p := range s.proxies {
		p.id = "bystander-" + p.id
	}
	return &storm{child: c, swarm: s}
}

// during changes the bystanders' fleet for as long as f runs.
func (s *storm) during(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	over, stirred := make(chan struct{}), make(chan error, 1)
	go func() { stirred <- s.stir(ctx, over) }()
	err := f()
	close(over)
	if failed := <-stirred; failed != nil {
		return failed
	}
	return err
}

func (s *storm) stir(ctx context.Context, over <-chan struct{}) error {
	tick := time.NewTicker(stirEvery)
	defer tick.Stop()
	for n := bystandFleet; ; n += stormFleets {
		select {
		case <-over:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		w := s.swarm.expect(n)
		if _, err := s.child.order(order{Do: "change", Change: n}); err != nil {
			return err
		}
		if err := s.swarm.await(ctx, w.done); err != nil {
			return fmt.Errorf("%d bystanders have not got change %d: %w", w.missing.Load(), n, err)
		}
		s.took = append(s.took, w.took)
	}
}

// arrive connects all proxies, in a storm beside the bystanders.
func (t *measurement) arrive(ctx context.Context) error {
	if t.storm == nil {
		return t.swarm.connect(ctx, t.options.parallel)
	}
	o := t.options
	err := t.storm.during(ctx, func() (err error) {
		t.storm.crowd, err = startChild(ctx, os.Stderr, "crowd", t.child.first.Address, "--protocol", string(o.protocol),
			"--clusters", strconv.Itoa(o.clusters), "--streams", strconv.Itoa(o.streams))
		return err
	})
	t.stirred = t.storm.took
	return err
}

// acks counts the responses that proxies have accepted.
func (t *measurement) acks() uint64 {
	if t.storm == nil {
		return t.swarm.acks.Load()
	}
	return t.storm.swarm.acks.Load() + t.storm.crowd.first.Acks
}

func (s *storm) close() {
	s.swarm.close()
	if s.crowd != nil {
		s.crowd.stop()
	}
}

// gather is the process of the crowd: it connects all proxies at once, says
// when they are configured, and keeps them until its input ends.
func gather(ctx context.Context, o *options, address string, in io.Reader, out io.Writer) error {
	s := newSwarm(o, address)
	defer s.close()
	var a answer
	if err := s.connect(ctx, o.streams); err != nil {
		a.Error = err.Error()
	}
	a.Acks = s.acks.Load()
	if err := json.NewEncoder(out).Encode(a); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return fmt.Errorf("wait for the end: %w", err)
	}
	return nil
}
