package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

func (a *app) reportAvailability() *cobra.Command {
	var f reportFlags
	cmd := &cobra.Command{
		Use:   "availability",
		Short: "Show the availability of fleets by month, newest first",
		Long: `Availability shows the share of the time of a fleet's proxies in which they were connected, by month in UTC. A proxy
counts until it is deleted or forgotten. By default of the last year, at most of five.`,
		Example: `  ecpctl reports availability
  ecpctl reports availability --fleet edge --since 2026-01-01T00:00:00Z`,
		Args: noArguments,
	}
	f.add(cmd, 0)
	cmd.RunE = runReport(a, &f, (*client.Client).ReportAvailability, func(t *table, items []wire.ReportedAvailability) {
		t.row("MONTH", "THROUGH", "FLEET", "AVAILABILITY", "CONNECTED", "DISCONNECTED")
		for _, x := range items {
			t.row(x.From.UTC().Format("2006-01"), x.To.UTC().Format(time.RFC3339), x.Fleet,
				decimal(100*x.Availability, 3)+" %", decimal(x.Connected, 1), decimal(x.Disconnected, 1))
		}
	})
	return cmd
}
