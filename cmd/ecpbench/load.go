package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/org/envoy-control-plane/cmd/ecpbench/trio"
)

// warmFor is how long clients work before what they do is measured.
const warmFor = time.Second

// worked is what clients did.
type worked struct {
	took      time.Duration
	latencies []time.Duration
	failed    int
	failure   error // the last one
	cpu       cpu   // of all members
}

func (w worked) rate() float64 { return float64(len(w.latencies)) / w.took.Seconds() }

func (w worked) glance() string {
	return fmt.Sprintf("%.0f a second%s", w.rate(), failures(w.failed, w.failure))
}

func failures(n int, last error) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", %d failed, the last one: %v", n, last)
}

// operation is what client number client does for the n-th time at a member.
type operation func(ctx context.Context, w trio.Writer, member, client, n int) error

// work has clients repeat an operation for a while, as fast as they can or at a
// rate of all together, and leaves out the beginning.
func work(ctx context.Context, c *trio.Cluster, o *trioOptions, do operation) (out worked, err error) {
	began := time.Now().Add(warmFor)
	end := began.Add(o.lasting)
	each := make([]worked, o.clients)
	var wg sync.WaitGroup
	var start cpu
	for i := range each {
		wg.Go(func() {
			w := c.Writer(clientKey(i))
			defer w.Close()
			each[i] = o.client(ctx, w, i, began, end, do)
		})
	}
	if err = pause(ctx, time.Until(began)); err == nil {
		start, err = membersCPU(c)
	}
	wg.Wait()
	if err != nil {
		return out, err
	}
	out.took = time.Since(began)
	for _, e := range each {
		out.latencies = append(out.latencies, e.latencies...)
		out.failed += e.failed
		out.failure = errors.Join(out.failure, e.failure)
	}
	used, err := membersCPU(c)
	out.cpu = used.since(start)
	return out, errors.Join(err, context.Cause(ctx))
}

func clientKey(i int) string { return fmt.Sprintf("service-%05d", i) }

// client is one client's work.
func (o *trioOptions) client(ctx context.Context, w trio.Writer, i int, began, end time.Time, do operation) (out worked) {
	var every time.Duration
	if o.rate > 0 {
		every = time.Duration(o.clients) * time.Second / time.Duration(o.rate)
	}
	due := time.Now().Add(every * time.Duration(i) / time.Duration(o.clients))
	for n := 0; ctx.Err() == nil; n++ {
		if every > 0 {
			if pause(ctx, time.Until(due)) != nil {
				return out
			}
		}
		start := time.Now()
		if start.After(end) {
			return out
		}
		one, cancel := context.WithTimeout(ctx, trio.Patience)
		err := do(one, w, i%trio.Members, i, n)
		cancel()
		if every > 0 {
			start = due // who comes late has waited, too
			due = due.Add(every)
		}
		switch {
		case start.Before(began):
		case err != nil:
			out.failed++
			out.failure = err
		default:
			out.latencies = append(out.latencies, time.Since(start))
		}
	}
	return out
}

func membersCPU(c *trio.Cluster) (sum cpu, err error) {
	for i := range trio.Members {
		one, err := readCPU(c.PID(i))
		if err != nil {
			return sum, err
		}
		sum.user += one.user
		sum.system += one.system
	}
	return sum, nil
}

// loadFigures are those of clients' work.
func loadFigures(what string, samples []worked) []figure {
	figures := []figure{
		median(what+" per second", "", samples, worked.rate),
		median(what+": servers' CPU for each", "us", samples, func(w worked) float64 {
			return micros(w.cpu.total()) / float64(max(1, len(w.latencies)))
		}),
	}
	return append(figures, quantiles(what+": time", "ms", time.Millisecond, samples, func(w worked) []time.Duration { return w.latencies })...)
}

// keepBusy runs processes that do nothing but use a core each, until the
// function that it returns is called.
func keepBusy(n int) (stop func(), err error) {
	var all []*exec.Cmd
	stop = func() {
		for _, cmd := range all {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // it was killed
		}
	}
	for range n {
		cmd := exec.Command("/bin/sh", "-c", "while :; do :; done")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			stop()
			return nil, fmt.Errorf("start a busy process: %w", err)
		}
		all = append(all, cmd)
	}
	return stop, nil
}
