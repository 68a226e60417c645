package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

func (a *app) reportMetrics() *cobra.Command {
	var f reportFlags
	cmd := &cobra.Command{
		Use:   "metrics NAME",
		Short: "Show what proxies have measured over time, newest first",
		Long: `Metrics shows a metric of the proxies of each fleet, or of each proxy (--group proxy), by minute, hour or day: how much a
counter went up and how much that is a second; the average of a gauge, summed over the proxies, with its lowest and highest
sample; the average and the percentiles of a histogram. By default of the last 60 intervals, at most of 1,500.

Proxies send their metrics when their bootstrap says so (ecpctl bootstrap --metrics-interval), and the nodes keep those
that --proxy-metrics names.`,
		Example: `  ecpctl reports metrics cluster.upstream_rq_xx --fleet edge --labels envoy.response_code_class=5
  ecpctl reports metrics http.downstream_rq_time --interval hour --since 24h
  ecpctl reports metrics server.memory_allocated --fleet edge --group proxy --limit 0 -o json`,
		Args: cobra.ExactArgs(1),
	}
	flags := f.add(cmd, 60)
	flags.StringVar(&f.q.Proxy, "proxy", "", "only of this proxy")
	flags.StringVar(&f.q.Labels, "labels", "", "only with these labels, `NAME=VALUE,...`")
	flags.StringVar(&f.q.Group, "group", "", "a row for each fleet or for each proxy (default: fleet)")
	flags.StringVar(&f.q.Interval, "interval", "", "minute, hour or day (default: minute)")
	report := runReport(a, &f, (*client.Client).ReportMetrics, func(t *table, items []wire.ReportedMetric) {
		t.row("FROM", "FLEET", "PROXY", "LABELS", "PROXIES", "COUNT", "VALUE", "PER SECOND", "MIN", "MAX", "P50", "P90", "P99")
		for _, m := range items {
			rate := ""
			if m.Kind == "counter" {
				rate = decimal(m.PerSecond(), 2)
			}
			t.row(m.From, m.Fleet, m.Proxy, labels(m.Labels), m.Proxies, m.Count, number(&m.Value), rate,
				number(m.Min), number(m.Max), number(m.P50), number(m.P90), number(m.P99))
		}
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f.q.Name = args[0]
		return report(cmd, args)
	}
	return cmd
}

// number is one with six digits, "" when it is absent.
func number(x *float64) string {
	if x == nil {
		return ""
	}
	return strconv.FormatFloat(*x, 'g', 6, 64)
}
