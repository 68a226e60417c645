package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/cmd/ecpbench/trio"
)

const (
	// attempt is how long a client waits before it asks another member, and
	// breath the time between two writes of one.
	attempt = 250 * time.Millisecond
	breath  = 5 * time.Millisecond
	// calm is how long the cluster is whole before the next leader is ended.
	calm = time.Second
	// regained is how long it may take until writes go on.
	regained = 30 * time.Second
)

func (a *app) failoverCommand() *cobra.Command {
	o := &trioOptions{}
	cmd := &cobra.Command{
		Use:   "failover",
		Short: "Measure how long writes stand still when the leader is killed, beside etcd",
		Long: `failover starts clusters of three processes, ours and etcd's with their defaults, and
kills the leader again and again while clients write over the two other members: each
write waits 250 ms at most and is then tried over the other one. Measured is the time
from the kill until a write is acknowledged that began behind it. Then the member is
started again, and the next leader killed a second after all are back.

With --orderly the leader is sent SIGTERM instead; measured is the longest time
without an acknowledgement between the signal and the leader's end.

Figures are of all kills; ratios are to etcd. All traffic stays on 127.0.0.1.`,
		Example: `  ecpbench failover
  ecpbench failover --kills 200 --servers ecp
  ecpbench failover --orderly -o json`,
		Args: cobra.NoArgs,
	}
	o.addFlags(cmd.Flags(), 1)
	o.size, o.lasting = 512, time.Second
	cmd.Flags().IntVar(&o.clients, "clients", 8, "clients, each with a key of its own")
	cmd.Flags().IntVar(&o.kills, "kills", 100, "leaders that are ended in a round")
	cmd.Flags().BoolVar(&o.orderly, "orderly", false, "end the leader by SIGTERM")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(); err != nil {
			return err
		}
		if o.kills < 1 {
			return misuse("--kills is %d; it is at least 1", o.kills)
		}
		setup := Trio{Clients: o.clients, Kills: o.kills, Orderly: o.orderly}
		return a.clusters(cmd.Context(), "failover", o, setup, measureFailover)
	}
	return cmd
}

func measureFailover(ctx context.Context, r *trioRun) error {
	samples, err := rounds(ctx, r, r.failover, func(gaps []time.Duration) string {
		return fmt.Sprintf("%d leaders ended, the longest gap %s", len(gaps), seconds(slices.Max(gaps)))
	})
	if err != nil {
		return err
	}
	for _, kind := range r.servers {
		r.result.Servers = append(r.result.Servers, outcome{Server: kind, Figures: quantiles(
			"until the next acknowledged write", "s", time.Second, samples[kind], func(gaps []time.Duration) []time.Duration { return gaps })})
	}
	return nil
}

// failover ends leaders and returns for how long nothing was acknowledged
// each time.
func (r *trioRun) failover(ctx context.Context, c *trio.Cluster) (gaps []time.Duration, err error) {
	watch := &ackWatch{}
	watch.down.Store(-1)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for i := range r.clients {
		wg.Go(func() {
			w := c.Writer(clientKey(i))
			defer w.Close()
			r.persist(ctx, w, i, watch)
		})
	}
	for n := range r.kills {
		gap, err := r.end(ctx, c, watch)
		if err != nil {
			return nil, fmt.Errorf("leader %d: %w", n+1, err)
		}
		gaps = append(gaps, gap)
	}
	return gaps, nil
}

// persist writes over the members that are up until the context ends.
func (r *trioRun) persist(ctx context.Context, w trio.Writer, client int, watch *ackWatch) {
	for n := client; pause(ctx, breath) == nil; n++ {
		member := n % trio.Members
		if int64(member) == watch.down.Load() {
			continue
		}
		one, cancel := context.WithTimeout(ctx, attempt)
		began := time.Now()
		err := w.Put(one, member, trio.Endpoints(clientKey(client), r.size, n))
		cancel()
		if err == nil {
			watch.acked(began, time.Now())
		}
	}
}

// end ends the leader, measures, and brings it back.
func (r *trioRun) end(ctx context.Context, c *trio.Cluster, watch *ackWatch) (time.Duration, error) {
	if err := pause(ctx, calm); err != nil {
		return 0, err
	}
	leader, err := c.Leader(ctx)
	if err != nil {
		return 0, err
	}
	watch.down.Store(int64(leader))
	if err := pause(ctx, attempt); err != nil { // nobody writes over it any more
		return 0, err
	}
	watch.begin()
	if r.orderly {
		err = c.Signal(leader, syscall.SIGTERM)
		c.Ended(leader)
	} else {
		c.Kill(leader)
	}
	if err != nil {
		return 0, err
	}
	gap, err := watch.gap(ctx, r.orderly)
	if err != nil {
		return 0, err
	}
	if err := c.Begin(leader); err != nil {
		return 0, err
	}
	back, cancel := context.WithTimeout(ctx, trio.Patience)
	defer cancel()
	if err := c.Ready(back); err != nil {
		return 0, err
	}
	watch.down.Store(-1)
	return gap, nil
}

// ackWatch knows when writes were acknowledged.
type ackWatch struct {
	down atomic.Int64 // member that nobody writes over, -1 for none

	mu      sync.Mutex
	from    time.Time     // when the leader was ended
	first   time.Time     // when the first write since then was acknowledged
	last    time.Time     // when the last one was
	longest time.Duration // between two of them
}

func (a *ackWatch) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.from = time.Now()
	a.first, a.last, a.longest = time.Time{}, a.from, 0
}

// acked notes a write that began at one time and was acknowledged at another.
func (a *ackWatch) acked(began, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if began.Before(a.from) {
		return
	}
	if a.first.IsZero() {
		a.first = at
	}
	a.longest = max(a.longest, at.Sub(a.last))
	a.last = at
}

// gap waits until writes go on and returns for how long they did not: until
// the first one, or the longest time between two until now.
func (a *ackWatch) gap(ctx context.Context, longest bool) (time.Duration, error) {
	now := time.Now()
	for end := now.Add(regained); time.Now().Before(end); {
		a.mu.Lock()
		first, last, most := a.first, a.last, a.longest
		from := a.from
		a.mu.Unlock()
		switch {
		case longest && last.After(now):
			return most, nil
		case !longest && !first.IsZero():
			return first.Sub(from), nil
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return 0, err
		}
	}
	return 0, errors.New("no write was acknowledged any more")
}
