package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

func (a *app) getCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get",
		Short: "Show tenants, fleets, resources and revisions",
		Example: `  ecpctl get fleets
  ecpctl get resources --fleet edge --type cluster`,
		Args: cobra.NoArgs,
		RunE: needsVerb,
	}
	cmd.AddCommand(a.getTenants(), a.getFleets(), a.getResources(), a.getRevisions())
	return cmd
}

func (a *app) getTenants() *cobra.Command {
	return &cobra.Command{
		Use:     "tenants [NAME]",
		Aliases: []string{"tenant"},
		Short:   "Show tenants",
		Example: `  ecpctl get tenants
  ecpctl get tenants acme -o yaml`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
			rows := func(t *table, items ...wire.Tenant) {
				t.row("NAME", "LABELS")
				for _, i := range items {
					t.row(i.Name, labels(i.Labels))
				}
			}
			if len(args) == 1 {
				one, err := c.GetTenant(cmd.Context(), args[0])
				return showOne(a, one, err, rows)
			}
			all, err := client.Collect(c.Tenants(cmd.Context()))
			return showAll(a, all, err, rows)
		}),
	}
}

func (a *app) getFleets() *cobra.Command {
	return &cobra.Command{
		Use:     "fleets [NAME]",
		Aliases: []string{"fleet"},
		Short:   "Show the tenant's fleets, their revisions and proxies",
		Example: `  ecpctl get fleets
  ecpctl --tenant acme get fleets edge -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
			rows := func(t *table, items ...wire.Fleet) {
				t.row("NAME", "REVISION", "PROXIES", "CONNECTED", "LABELS")
				for _, i := range items {
					t.row(i.Name, i.Revision, i.Proxies, i.Connected, labels(i.Labels))
				}
			}
			if len(args) == 1 {
				one, err := c.GetFleet(cmd.Context(), args[0])
				return showOne(a, one, err, rows)
			}
			all, err := client.Collect(c.Fleets(cmd.Context()))
			return showAll(a, all, err, rows)
		}),
	}
}

func (a *app) getRevisions() *cobra.Command {
	var fleet string
	var limit int
	cmd := &cobra.Command{
		Use:     "revisions --fleet FLEET [REVISION]",
		Aliases: []string{"revision"},
		Short:   "Show a fleet's revisions, newest first",
		Example: `  ecpctl get revisions --fleet edge
  ecpctl get revisions --fleet edge 12 -o yaml`,
		Args: cobra.MaximumNArgs(1),
	}
	addFleet(cmd, &fleet, "fleet that the revisions are of")
	cmd.Flags().IntVar(&limit, "limit", 20, "most revisions to show; 0: all")
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
		if err := needFleet(fleet); err != nil {
			return err
		}
		if len(args) == 1 {
			n, err := strconv.ParseUint(args[0], 10, 64)
			if err != nil || n == 0 {
				return misuse("%q is not a revision", args[0])
			}
			one, err := c.GetRevision(cmd.Context(), fleet, n)
			return showOne(a, one, err, revisionRows)
		}
		all, err := first(c.Revisions(cmd.Context(), fleet), limit)
		return showAll(a, all, err, revisionRows)
	})
	return cmd
}

func revisionRows(t *table, items ...wire.Revision) {
	t.row("REVISION", "AT", "BY", "CHANGES", "MESSAGE")
	for _, i := range items {
		message := i.Message
		if i.RollbackOf > 0 && message == "" {
			message = "rollback to " + strconv.FormatUint(i.RollbackOf, 10)
		}
		t.row(i.Revision, i.At, i.By, len(i.Changed), message)
	}
}
