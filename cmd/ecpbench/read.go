package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/cmd/ecpbench/trio"
)

func (a *app) readCommand() *cobra.Command {
	o := &trioOptions{}
	cmd := &cobra.Command{
		Use:   "read",
		Short: "Measure reads from a cluster of three, beside etcd",
		Long: `read starts clusters of three processes, ours and etcd's with their defaults, in turns,
and has clients read, one kind after the other: a value of what the member has (endpoints
over REST; a serializable range of etcd), and the same strongly, not older than
what was acknowledged before (consistency=strong; a linearizable range). Of ours alone:
one proxy, a page of 100, and the status of a fleet, with proxies registered over
xDS streams that stay open.

Figures are medians of the rounds; ratios are to etcd. All traffic stays on 127.0.0.1.`,
		Example: `  ecpbench read
  ecpbench read --proxies 1000 --clients 16
  ecpbench read --rate 2000 --servers ecp`,
		Args: cobra.NoArgs,
	}
	o.addFlags(cmd.Flags(), 3)
	o.addLoad(cmd.Flags())
	cmd.Flags().IntVar(&o.rate, "rate", 0, "reads a second, of all clients together; 0: as many as they can")
	cmd.Flags().IntVar(&o.proxies, "proxies", 10_000, "proxies that are connected to our cluster")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(); err != nil {
			return err
		}
		if o.proxies < 1 {
			return misuse("--proxies is %d; it is at least 1", o.proxies)
		}
		setup := Trio{Clients: o.clients, Size: o.size, Seconds: o.lasting.Seconds(), Offered: o.rate, Proxies: o.proxies}
		return a.clusters(cmd.Context(), "read", o, setup, measureReads)
	}
	return cmd
}

// reads are the kinds of reads, in their order.
func (r *trioRun) reads(kind string) (names []string, do []operation) {
	value := func(strong bool) operation {
		return func(ctx context.Context, w trio.Writer, member, _, _ int) error { return w.Get(ctx, member, strong) }
	}
	names, do = []string{"local reads", "strong reads"}, []operation{value(false), value(true)}
	if kind != trio.ECP {
		return names, do
	}
	path := func(of func(client, n int) string) operation {
		return func(ctx context.Context, w trio.Writer, member, client, n int) error {
			return trio.GetPath(ctx, w, member, "/api/v1/tenants/default/"+of(client, n))
		}
	}
	return append(names, "reads of a proxy", "pages of 100 proxies", "fleet status"), append(do,
		path(func(client, n int) string { return "proxies/" + proxyID((client+n*r.clients)%r.proxies) }),
		path(func(int, int) string { return "proxies?limit=100" }),
		path(func(int, int) string { return "fleets/" + fleetName(0) + "/status" }))
}

// turnOfReads has what was measured of each kind.
type turnOfReads []worked

func measureReads(ctx context.Context, r *trioRun) error {
	samples, err := rounds(ctx, r, r.readTurn, func(t turnOfReads) string {
		return fmt.Sprintf("local %s; strong %s", t[0].glance(), t[1].glance())
	})
	if err != nil {
		return err
	}
	for _, kind := range r.servers {
		out := outcome{Server: kind}
		names, _ := r.reads(kind)
		for i, name := range names {
			var all []worked
			for _, t := range samples[kind] {
				all = append(all, t[i])
			}
			out.Figures = append(out.Figures, loadFigures(name, all)...)
		}
		r.result.Servers = append(r.result.Servers, out)
	}
	return nil
}

func (r *trioRun) readTurn(ctx context.Context, c *trio.Cluster) (out turnOfReads, err error) {
	for i := range r.clients {
		w := c.Writer(clientKey(i))
		err := w.Put(ctx, i%trio.Members, trio.Endpoints(clientKey(i), r.size, i))
		w.Close()
		if err != nil {
			return nil, fmt.Errorf("write what is read: %w", err)
		}
	}
	kind := c.Kind()
	if kind == trio.ECP {
		crew, err := r.register(ctx, c)
		if err != nil {
			return nil, err
		}
		defer crew.close()
	}
	names, do := r.reads(kind)
	for i, name := range names {
		w, err := work(ctx, c, r.trioOptions, do[i])
		if err == nil && w.failed > 0 {
			err = fmt.Errorf("%d failed: %w", w.failed, w.failure)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, w)
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
	return out, nil
}
