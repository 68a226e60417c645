package main

import (
	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

func (a *app) reportChanges() *cobra.Command {
	var f reportFlags
	cmd := &cobra.Command{
		Use:   "changes",
		Short: "Show who changed what and when, newest first",
		Long: `Changes shows what was changed, without the coming and going of proxies that "ecpctl history" shows too. By
default of the last 30 days, at most of 366.`,
		Example: `  ecpctl reports changes --fleet edge --by alice
  ecpctl reports changes --kind endpoints_put --since 24h --limit 0 -o json`,
		Args: noArguments,
	}
	flags := f.add(cmd, 20)
	flags.StringVar(&f.q.Kind, "kind", "", "only this kind of event, such as revision_created or fleet_put")
	flags.StringVar(&f.q.By, "by", "", "only what this subject did")
	cmd.RunE = runReport(a, &f, (*client.Client).ReportChanges, func(t *table, items []wire.ReportedChange) {
		t.row("AT", "BY", "FLEET", "KIND", "WHAT")
		for _, c := range items {
			words := what(wire.Event{Data: c.Data})
			if c.Changes > 0 {
				words = plural(c.Changes, "change") + ", " + words
			}
			t.row(c.At, c.By, c.Fleet, c.Kind, words)
		}
	})
	return cmd
}
