package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"
)

// Changes of a turn beside those that are measured: warmUp before them, and
// pushes, during which applies are timed; maxSpare bounds both.
const (
	warmUp      = 3
	pushes      = 5
	applyCount  = 100 // while nothing happens, and while all pushes are under way
	maxSpare    = warmUp + pushes
	memoryEvery = 100 * time.Millisecond
)

// sample is what was measured in one turn of one server.
type sample struct {
	connected  time.Duration // until all proxies were configured
	connectCPU cpu           // until all acknowledgements were read as well
	grown      uint64        // resident bytes, settled, by which the server grew
	peak       uint64        // resident bytes at the most, by which it had grown before

	updates, extra uint64 // delivered and acknowledged; responses beyond them
	cpu            cpu
	traffic        traffic
	last           []time.Duration // until the last proxy had each change
	acked          []time.Duration // until all its proxies had acknowledged it
	idle, pushing  []time.Duration // applies of what concerns nobody
	flood          flood
	again          again
	drained        drained
	stirred        []time.Duration // of a storm: from commit to ACK of the other fleet
}

// turn measures one server, from its start to its end. Profiles are written
// when that is wanted.
func turn(ctx context.Context, name string, o *options, stderr io.Writer) (sample, error) {
	// However the turn ends, the process does.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c, err := startServer(ctx, name, o, stderr)
	if err != nil {
		return sample{}, err
	}
	defer c.stop()
	t := &measurement{child: c, options: o, swarm: newSwarm(o, c.first.Address)}
	defer t.swarm.close()
	if o.storm {
		t.storm = newStorm(o, c)
		defer t.storm.close()
	}
	if o.profiled {
		t.profile = func(what string) string { return filepath.Join(o.profile, name+"."+what+".pprof") }
	}
	err = t.connect(ctx)
	switch {
	case err != nil:
	case o.rate > 0:
		err = t.rush(ctx)
	case o.changes > 0:
		err = t.fanOut(ctx)
	case o.drain:
		err = t.handOver(ctx, name)
	case o.again:
		err = t.comeBack(ctx, name, stderr)
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = errors.Join(cause, err)
		}
		return sample{}, err
	}
	return t.sample, nil
}

// measurement is a turn under way.
type measurement struct {
	sample
	child   *child
	swarm   *swarm
	storm   *storm // nil: none
	options *options
	profile func(what string) string // path of a profile; nil: none
}

// connect connects all proxies.
func (t *measurement) connect(ctx context.Context) error {
	before, err := t.child.settle(ctx, t.options.settle)
	if err == nil && t.storm != nil {
		err = t.storm.swarm.connect(ctx, bystanders)
	}
	if err != nil {
		return err
	}
	start, err := readCPU(t.child.cmd.Process.Pid)
	if err != nil {
		return err
	}
	began := time.Now()
	if t.options.changes == 0 {
		err = t.startProfile("connect")
	}
	if err == nil {
		err = t.arrive(ctx)
	}
	t.connected = time.Since(began)
	if err == nil {
		err = t.child.awaitAcks(ctx, t.acks)
	}
	if err != nil {
		return err
	}
	if t.connectCPU, err = t.used(start); err != nil {
		return err
	}
	t.endProfile()
	m, err := readMemory(t.child.cmd.Process.Pid)
	if err != nil {
		return err
	}
	settled, err := t.child.settle(ctx, t.options.settle)
	if err != nil {
		return err
	}
	t.peak, t.grown = less(m.peak, before), less(settled, before)
	if t.profile != nil {
		_, err = t.child.order(order{Do: "heap", Path: t.profile("heap")})
	}
	return err
}

func (t *measurement) warm(ctx context.Context) error {
	for n := 1; n <= warmUp; n++ {
		if _, err := t.change(ctx, n); err != nil {
			return err
		}
	}
	return t.child.awaitAcks(ctx, t.swarm.acks.Load)
}

// fanOut makes the changes.
func (t *measurement) fanOut(ctx context.Context) error {
	if err := t.warm(ctx); err != nil {
		return err
	}
	acks, extra := t.swarm.acks.Load(), t.swarm.extra.Load()
	carried, err := t.swarm.traffic()
	if err == nil {
		err = t.startProfile("cpu")
	}
	if err != nil {
		return err
	}
	start, err := readCPU(t.child.cmd.Process.Pid)
	if err != nil {
		return err
	}
	for n := warmUp + 1; n <= warmUp+t.options.changes; n++ {
		w, err := t.change(ctx, n)
		if err != nil {
			return fmt.Errorf("change %d: %w", n, err)
		}
		t.last = append(t.last, time.Duration(w.last.Load()))
		t.acked = append(t.acked, w.took)
	}
	if err := t.child.awaitAcks(ctx, t.swarm.acks.Load); err != nil {
		return err
	}
	if t.cpu, err = t.used(start); err != nil {
		return err
	}
	t.endProfile()
	t.extra = t.swarm.extra.Load() - extra
	t.updates = t.swarm.acks.Load() - acks - t.extra
	now, err := t.swarm.traffic()
	t.traffic = now.since(carried)
	if err != nil {
		return err
	}
	return t.apply(ctx)
}

// used returns the CPU time of the server since a reading.
func (t *measurement) used(since cpu) (cpu, error) {
	now, err := readCPU(t.child.cmd.Process.Pid)
	return now.since(since), err
}

func (t *measurement) startProfile(what string) error {
	if t.profile == nil {
		return nil
	}
	_, err := t.child.order(order{Do: "profile", Path: t.profile(what)})
	return err
}

// endProfile ends a profile; when none runs that does nothing.
func (t *measurement) endProfile() {
	if t.profile != nil {
		_, _ = t.child.order(order{Do: "profile"}) // a dead process is found out next
	}
}

// less is a-b, 0 when that is negative.
func less(a, b uint64) uint64 {
	if a < b {
		return 0
	}
	return a - b
}
