package main

import (
	"context"
	"fmt"
	"os/exec"
	"time"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/cmd/ecpbench/trio"
)

// countFor is how long writes are counted along with the calls of fdatasync.
const countFor = 3 * time.Second

func (a *app) writeCommand() *cobra.Command {
	o := &trioOptions{}
	cmd := &cobra.Command{
		Use:   "write",
		Short: "Measure writes to a cluster of three, beside etcd",
		Long: `write starts clusters of three processes on one disk, ours and etcd's with their
defaults, in turns, and has clients write: PUT of a service's endpoints over REST, or
of a value of the same bytes over etcd's own gRPC. Each client has one key and a
connection to one member, every write changes the content, and is repeated as soon as
it is acknowledged; with --rate all clients together write so many a second, however long
they take. A turn's elections are counted; --busy has processes beside it that
use up the machine.

How often a cluster calls fdatasync and fsync is counted by strace, where that is
installed, in a turn more that does not count otherwise.

Figures are medians of the rounds; ratios are to etcd. All traffic stays on 127.0.0.1.`,
		Example: `  ecpbench write
  ecpbench write --clients 256 --rounds 5 --dir /var/lib
  ecpbench write --rate 500 --for 10m --busy 4 --rounds 1 --servers ecp`,
		Args: cobra.NoArgs,
	}
	o.addFlags(cmd.Flags(), 3)
	o.addLoad(cmd.Flags())
	o.addRate(cmd.Flags())
	cmd.Flags().IntVar(&o.busy, "busy", 0, "processes beside the cluster that do nothing but use a core each")
	cmd.Flags().BoolVar(&o.syncs, "syncs", true, "count the calls of fdatasync and fsync by strace")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(); err != nil {
			return err
		}
		setup := Trio{Clients: o.clients, Size: o.size, Seconds: o.lasting.Seconds(), Offered: o.rate, Busy: o.busy}
		return a.clusters(cmd.Context(), "write", o, setup, measureWrites)
	}
	return cmd
}

// written is what was measured in a turn of writes.
type written struct {
	worked
	elections float64
}

func measureWrites(ctx context.Context, r *trioRun) error {
	samples, err := rounds(ctx, r, r.writes, func(w written) string {
		return fmt.Sprintf("%s, %.0f elections", w.glance(), w.elections)
	})
	if err != nil {
		return err
	}
	for _, kind := range r.servers {
		var all []worked
		for _, s := range samples[kind] {
			all = append(all, s.worked)
		}
		figures := append(loadFigures("writes", all),
			median("failed writes", "", samples[kind], func(w written) float64 { return float64(w.failed) }),
			median("elections", "", samples[kind], func(w written) float64 { return w.elections }))
		syncs, err := r.countSyncs(ctx, kind)
		if err != nil {
			return fmt.Errorf("count the calls of fdatasync of %s: %w", kind, err)
		}
		r.result.Servers = append(r.result.Servers, outcome{Server: kind, Figures: append(figures, syncs...)})
	}
	return nil
}

// writes is one turn.
func (r *trioRun) writes(ctx context.Context, c *trio.Cluster) (out written, err error) {
	stop, err := keepBusy(r.busy)
	if err != nil {
		return out, err
	}
	defer stop()
	before, err := c.Elections(ctx)
	if err != nil {
		return out, err
	}
	out.worked, err = work(ctx, c, r.trioOptions, r.put)
	if err != nil {
		return out, err
	}
	after, err := c.Elections(ctx)
	out.elections = after - before
	return out, err
}

func (r *trioRun) put(ctx context.Context, w trio.Writer, member, client, n int) error {
	return w.Put(ctx, member, trio.Endpoints(clientKey(client), r.size, n))
}

// countSyncs is a turn under strace. None that is installed, no figure.
func (r *trioRun) countSyncs(ctx context.Context, kind string) ([]figure, error) {
	if _, err := exec.LookPath("strace"); !r.syncs || err != nil {
		if r.syncs {
			r.app.note("strace is not installed: calls of fdatasync are not counted")
		}
		return nil, nil
	}
	o := *r.trioOptions
	o.lasting = countFor
	calls := 0
	w, err := withCluster(ctx, r, kind, trio.Options{CountSyncs: true}, func(ctx context.Context, c *trio.Cluster) (worked, error) {
		w, err := work(ctx, c, &o, r.put)
		if err == nil {
			err = c.Stop()
		}
		if err == nil {
			calls, err = c.Syncs()
		}
		return w, err
	})
	if err != nil {
		return nil, err
	}
	// What was written before the measured part counts among the calls.
	all := w.rate() * (countFor + warmFor).Seconds()
	return []figure{{Name: "fdatasync and fsync per 1,000 writes", Value: 1000 * float64(calls) / all}}, err
}
