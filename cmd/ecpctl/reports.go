package main

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

func (a *app) reportsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reports",
		Short: "Ask the archive about the past",
		Example: `  ecpctl reports convergence --fleet edge
  ecpctl reports availability`,
		Args: cobra.NoArgs,
		RunE: needsVerb,
	}
	cmd.AddCommand(a.reportChanges(), a.reportConvergence(), a.reportRejections(), a.reportProxies(), a.reportAvailability(),
		a.reportMetrics())
	return cmd
}

// reportFlags are those of every report.
type reportFlags struct {
	q            client.ReportQuery
	since, until string
}

func (f *reportFlags) add(cmd *cobra.Command, rows int) *pflag.FlagSet {
	flags := cmd.Flags()
	addFleet(cmd, &f.q.Fleet, "only of this fleet")
	flags.StringVar(&f.since, "since", "", "not before this `TIME`, RFC 3339 or how long ago (720h)")
	flags.StringVar(&f.until, "until", "", "before this `TIME`, RFC 3339 or how long ago (24h)")
	flags.IntVar(&f.q.Limit, "limit", rows, "most rows to show; 0: all")
	return flags
}

func (f *reportFlags) query() (client.ReportQuery, error) {
	now := time.Now()
	var err error
	if f.q.Since, err = instantFlag("since", f.since, now); err != nil {
		return f.q, err
	}
	if f.q.Until, err = instantFlag("until", f.until, now); err != nil {
		return f.q, err
	}
	if f.q.Limit < 0 {
		return f.q, misuse("--limit must not be negative")
	}
	return f.q, nil
}

// runReport reads pages until there are as many rows as wanted, and shows them.
func runReport[T any](
	a *app, f *reportFlags,
	ask func(*client.Client, context.Context, client.ReportQuery) (*wire.Report[T], error), rows func(t *table, items []T),
) func(*cobra.Command, []string) error {
	return a.withClient(func(cmd *cobra.Command, c *client.Client, _ []string) error {
		q, err := f.query()
		if err != nil {
			return err
		}
		want := q.Limit
		all := &wire.Report[T]{Items: []T{}}
		for {
			q.Limit = wire.MaxLimit
			if want > 0 {
				q.Limit = want - len(all.Items)
			}
			page, err := ask(c, cmd.Context(), q)
			if err != nil {
				return err
			}
			page.Items = append(all.Items, page.Items...)
			all = page
			if page.Next == "" || want > 0 && len(all.Items) >= want {
				break
			}
			q.Cursor, q.Since, q.Until = page.Next, page.Since, page.Until
		}
		if a.forPeople() && all.Next != "" {
			a.note("there are more rows: --limit 0 shows all")
		}
		return a.show(all, func(t *table) { rows(t, all.Items) })
	})
}

// decimal is a number with so many places.
func decimal(x float64, places int) string { return strconv.FormatFloat(x, 'f', places, 64) }
