package main

import (
	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

func (a *app) reportRejections() *cobra.Command {
	var f reportFlags
	cmd := &cobra.Command{
		Use:   "rejections",
		Short: "Show what proxies rejected, by fleet and text, most first",
		Long:  `Rejections counts what proxies rejected, by fleet, type and the proxies' own text. By default of the last 30 days, at most of 366.`,
		Example: `  ecpctl reports rejections
  ecpctl reports rejections --fleet edge --since 24h -o json`,
		Args: noArguments,
	}
	f.add(cmd, 20)
	cmd.RunE = runReport(a, &f, (*client.Client).ReportRejections, func(t *table, items []wire.ReportedRejections) {
		t.row("COUNT", "PROXIES", "FLEET", "TYPE", "REVISIONS", "LAST", "PROXY", "DETAIL")
		for _, r := range items {
			t.row(r.Count, r.Proxies, r.Fleet, r.Type, revisions(r.FirstRevision, r.LastRevision), r.LastAt, r.Proxy, r.Detail)
		}
	})
	return cmd
}
