package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

func (a *app) reportProxies() *cobra.Command {
	var f reportFlags
	cmd := &cobra.Command{
		Use:   "proxies",
		Short: "Show how many proxies there were by build and status over time, newest first",
		Long: `Proxies shows how many proxies of each build were connected and how many were not, on average over each day or
month in UTC. A proxy counts until it is deleted or forgotten. By default of the last 30 days, at most of 366.`,
		Example: `  ecpctl reports proxies --fleet edge
  ecpctl reports proxies --interval month --since 4320h`,
		Args: noArguments,
	}
	f.add(cmd, 0).StringVar(&f.q.Interval, "interval", "", "day or month (default: day)")
	cmd.RunE = runReport(a, &f, (*client.Client).ReportProxies, func(t *table, items []wire.ReportedProxies) {
		t.row("FROM", "BUILD", "CONNECTED", "DISCONNECTED")
		for _, p := range items {
			t.row(p.From, p.Build, decimal(p.Connected, 1), decimal(p.Disconnected, 1))
		}
	})
	return cmd
}

// revisions is "3" or "3-7".
func revisions(first, last uint64) string {
	if first == last {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, last)
}
