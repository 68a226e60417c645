package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

func (a *app) reportConvergence() *cobra.Command {
	var f reportFlags
	cmd := &cobra.Command{
		Use:   "convergence",
		Short: "Show how long revisions took to reach their proxies, newest first",
		Long: `Convergence shows, of each revision, how long it took from its commit until half, 99 % and all of the proxies that
were connected then had it, and which took longest. By default of the last 30 days, at most of 366.`,
		Example: `  ecpctl reports convergence --fleet edge
  ecpctl reports convergence --since 2026-11-01T00:00:00Z --limit 0 -o json`,
		Args: noArguments,
	}
	f.add(cmd, 20)
	cmd.RunE = runReport(a, &f, (*client.Client).ReportConvergence, func(t *table, items []wire.ReportedConvergence) {
		t.row("AT", "FLEET", "REVISION", "BY", "SYNCED", "REJECTED", "DEPARTED", "PENDING", "P50", "P99", "ALL", "SLOWEST")
		for _, c := range items {
			t.row(c.At, c.Fleet, c.Revision, c.By, fmt.Sprintf("%d/%d", c.Synced, c.Expected), c.Rejected, c.Departed, c.Pending,
				millis(c.P50MS, c.Synced > 0), millis(c.P99MS, c.Synced > 0), millis(c.MaxMS, c.Converged), slowest(c))
		}
	})
	return cmd
}

func millis(ms int64, known bool) string {
	if !known {
		return ""
	}
	return (time.Duration(ms) * time.Millisecond).String()
}

// slowest names those that are waited for, else the three that took longest.
func slowest(c wire.ReportedConvergence) string {
	if len(c.Waiting) > 0 {
		return "waiting: " + strings.Join(c.Waiting[:min(3, len(c.Waiting))], ", ")
	}
	var words []string
	for _, s := range c.Slowest[:min(3, len(c.Slowest))] {
		words = append(words, fmt.Sprintf("%s (%s)", s.Proxy, millis(s.AfterMS, true)))
	}
	return strings.Join(words, ", ")
}
