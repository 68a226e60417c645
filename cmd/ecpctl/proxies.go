package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

func (a *app) proxiesCommand() *cobra.Command {
	var q client.ProxyQuery
	cmd := &cobra.Command{
		Use:     "proxies [PROXY]",
		Aliases: []string{"proxy"},
		Short:   "Show the tenant's proxies and what they acknowledged or rejected",
		Long: `Without an argument, proxies lists them. With a proxy's id it shows that one: its streams, and per type the
version that was sent, acknowledged and rejected, with Envoy's text.`,
		Example: `  ecpctl proxies --fleet edge
  ecpctl proxies --status disconnected
  ecpctl proxies edge-1
  ecpctl proxies edge-1 -o yaml
  ecpctl proxies config edge-1
  ecpctl proxies retry edge-1`,
		Args: cobra.MaximumNArgs(1),
	}
	addFleet(cmd, &q.Fleet, "only proxies of this fleet")
	cmd.Flags().StringVar(&q.Status, "status", "", "only connected or disconnected ones")
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
		if q.Status != "" && q.Status != wire.StatusConnected && q.Status != wire.StatusDisconnected {
			return misuse("--status is %q; it is connected or disconnected", q.Status)
		}
		if len(args) == 0 {
			all, err := client.Collect(c.Proxies(cmd.Context(), q))
			return showAll(a, all, err, proxyRows)
		}
		if q.Fleet != "" || q.Status != "" {
			return misuse("--fleet and --status select from the list, not from one proxy")
		}
		p, err := c.GetProxy(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return a.show(p, func(t *table) { proxyDetail(t, p) })
	})
	cmd.AddCommand(a.proxyConfigCommand(), a.proxyRetryCommand())
	return cmd
}

func proxyRows(t *table, items ...wire.Proxy) {
	t.row("ID", "FLEET", "STATUS", "SYNC", "REVISION", "NODES", "BUILD", "CHANGED")
	for _, p := range items {
		t.row(p.ID, p.Fleet, p.Status, p.Sync, p.Revision, strings.Join(nodesOf(p), ","), p.Build, p.ChangedAt)
	}
}

// nodesOf names the nodes that serve a proxy.
func nodesOf(p wire.Proxy) []string {
	var nodes []string
	for _, s := range p.Streams {
		nodes = append(nodes, s.Node)
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

func proxyDetail(t *table, p *wire.Proxy) {
	t.row("Proxy:", p.ID)
	t.row("Tenant:", p.Tenant)
	t.row("Fleet:", p.Fleet)
	t.row("Status:", p.Status)
	t.row("Sync:", syncOf(p))
	t.row("Revision:", p.Revision)
	t.row("Build:", p.Build)
	if p.Locality != nil {
		t.row("Locality:", strings.Trim(p.Locality.Region+"/"+p.Locality.Zone+"/"+p.Locality.SubZone, "/"))
	}
	t.row("Labels:", labels(p.Labels))
	t.row("First seen:", p.FirstSeen)
	t.row("Changed:", p.ChangedAt)
	if p.DuplicateID {
		t.row("Warning:", "two peers use this id at once")
	}
	t.line("")
	t.row("TYPE", "SENT", "ACKED", "REJECTED", "AT")
	types := slices.Sorted(maps.Keys(p.Types))
	for _, name := range types {
		s := p.Types[name]
		if s.Rejected == nil {
			t.row(name, s.Sent, s.Acked, "", "")
			continue
		}
		t.row(name, s.Sent, s.Acked, s.Rejected.Version, s.Rejected.At)
	}
	for _, name := range types {
		if r := p.Types[name].Rejected; r != nil {
			t.line("\nEnvoy rejects %s: %s", clean(name), clean(r.Detail))
		}
	}
	t.line("")
	t.row("NODE", "PEER", "PROTOCOL", "TYPES", "SINCE")
	for _, s := range p.Streams {
		t.row(s.Node, s.Peer, s.Protocol, strings.Join(s.Types, ","), s.Since)
	}
}

func syncOf(p *wire.Proxy) string {
	if p.Sync == wire.SyncPending && p.WaitingFor != "" {
		return p.Sync + ", waiting for " + p.WaitingFor
	}
	return p.Sync
}
