package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// swarm is all proxies of a turn.
type swarm struct {
	protocol protocol
	address  string
	scene    *scene
	proxies  []*proxy
	// had is what proxies that come back have, by type, encoded; nil for new
	// ones.
	had map[string][]byte

	acks   atomic.Uint64        // sent
	extra  atomic.Uint64        // responses that nobody waited for
	resent atomic.Uint64        // bytes of resources that proxies had
	wave   atomic.Pointer[wave] // the change that is under way

	takeover atomic.Pointer[takeover] // where proxies go whose streams end; nil: nowhere

	failed chan error // capacity 1: why the first proxy's stream ended
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// wave is one change on its way to all proxies.
type wave struct {
	marker  []byte
	began   time.Time
	last    atomic.Int64  // time until the latest proxy so far got it, in nanoseconds
	missing atomic.Int64  // proxies that have not acknowledged it
	took    time.Duration // until all had acknowledged it, when that is done
	done    chan struct{}
}

func newSwarm(o *options, address string) *swarm {
	s := &swarm{
		protocol: o.protocol, address: address, scene: newScene(o.fleets, o.clusters, o.endpoints),
		failed: make(chan error, 1),
	}
	names := make([][]byte, o.fleets)
	for f := range names {
		names[f] = o.protocol.encodeNames(s.scene.names(f))
	}
	for i := range o.streams {
		p := &proxy{swarm: s, id: fmt.Sprintf("proxy-%05d", i), fleet: i % o.fleets}
		p.names = names[p.fleet]
		if o.distinct {
			p.names = append(slices.Clip(p.names), o.protocol.encodeNames([]string{"only-" + p.id})...)
		}
		s.proxies = append(s.proxies, p)
	}
	return s
}

// again makes the proxies come back to another server with what the first of
// them has. All are in one fleet.
func (s *swarm) again(o *options, address string) *swarm {
	next := newSwarm(o, address)
	next.had = s.proxies[0].had
	return next
}

// connect opens all streams, some at a time, and returns when every proxy has
// its clusters and endpoints.
func (s *swarm) connect(ctx context.Context, parallel int) error {
	// The streams live longer than this call; close ends them.
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	gate := make(chan struct{}, parallel)
	var ready sync.WaitGroup
	for i, p := range s.proxies {
		select {
		case gate <- struct{}{}:
		case err := <-s.failed:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		ready.Add(1)
		configured := sync.OnceFunc(func() { <-gate; ready.Done() })
		s.wg.Go(func() {
			defer configured()
			err := p.run(life, configured)
			if to := s.takeover.Load(); to != nil && life.Err() == nil {
				err = to.follow(life, i)
			}
			if life.Err() == nil {
				s.fail(fmt.Errorf("%s: %w", p.id, err))
			}
		})
	}
	all := make(chan struct{})
	go func() { ready.Wait(); close(all) }()
	return s.await(ctx, all)
}

// fail notes the first failure.
func (s *swarm) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
}

// await waits for something that proxies do.
func (s *swarm) await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
	case <-ctx.Done():
		return context.Cause(ctx)
	case err := <-s.failed:
		return err
	}
	select {
	case err := <-s.failed:
		return err
	default:
		return nil
	}
}

// close ends all streams and waits for that.
func (s *swarm) close() {
	if s.cancel != nil {
		s.cancel()
	}
	s.wg.Wait()
}

// expect announces change n, which begins now.
func (s *swarm) expect(n int) *wave {
	w := &wave{marker: []byte(marker(n)), began: time.Now(), done: make(chan struct{})}
	for _, p := range s.proxies {
		if p.fleet == s.scene.fleetOf(n) {
			w.missing.Add(1)
		}
	}
	s.wave.Store(w)
	return w
}

// reached notes that a proxy has the change.
func (w *wave) reached() {
	for took := int64(time.Since(w.began)); ; {
		last := w.last.Load()
		if last >= took || w.last.CompareAndSwap(last, took) {
			return
		}
	}
}

// acknowledged notes that a proxy has accepted it.
func (w *wave) acknowledged() {
	if w.missing.Add(-1) == 0 {
		w.took = time.Since(w.began)
		close(w.done)
	}
}

// traffic sums up what all connections carried.
func (s *swarm) traffic() (traffic, error) {
	var sum traffic
	var errs error
	for _, p := range s.proxies {
		t, err := readTraffic(p.socket.Load())
		errs = errors.Join(errs, err)
		sum.down += t.down
		sum.up += t.up
	}
	return sum, errs
}
