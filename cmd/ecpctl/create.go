package main

import (
	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

func (a *app) createCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create tenants and fleets, or change their labels",
		Example: `  ecpctl create tenant acme
  ecpctl --tenant acme create fleet edge --label team=web`,
		Args: cobra.NoArgs,
		RunE: needsVerb,
	}
	cmd.AddCommand(a.createTenant(), a.createFleet())
	return cmd
}

func (a *app) createTenant() *cobra.Command {
	var flags []string
	cmd := &cobra.Command{
		Use:   "tenant NAME",
		Short: "Create a tenant, or replace the labels of one",
		Example: `  ecpctl create tenant acme
  ecpctl create tenant acme --label plan=gold`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringArrayVar(&flags, "label", nil, "label `NAME=VALUE`; repeatable")
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
		given, err := parseLabels(flags)
		if err != nil {
			return err
		}
		w, err := c.PutTenant(cmd.Context(), args[0], wire.TenantPut{Labels: given})
		if err != nil {
			return err
		}
		return a.show(w, func(t *table) { t.line("tenant %s %s", w.Name, put(w.Unchanged)) })
	})
	return cmd
}

func (a *app) createFleet() *cobra.Command {
	var flags []string
	settings := &wire.FleetSettings{}
	cmd := &cobra.Command{
		Use:   "fleet NAME",
		Short: "Create a fleet, or replace the labels and settings of one",
		Long: `Create a fleet, or replace the labels and settings of one. A fleet that is only to be configured needs no
creating: "ecpctl apply" does it.`,
		Example: `  ecpctl create fleet edge
  ecpctl create fleet edge --label team=web --revision-history-limit 200`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringArrayVar(&flags, "label", nil, "label `NAME=VALUE`; repeatable")
	cmd.Flags().Uint32Var(&settings.RevisionHistoryLimit, "revision-history-limit", 0,
		"revisions that stay in memory; 0: the default")
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
		given, err := parseLabels(flags)
		if err != nil {
			return err
		}
		w, err := c.PutFleet(cmd.Context(), args[0], wire.FleetPut{Labels: given, Settings: settings})
		if err != nil {
			return err
		}
		return a.show(w, func(t *table) { t.line("fleet %s %s", w.Name, put(w.Unchanged)) })
	})
	return cmd
}

func put(unchanged bool) string {
	if unchanged {
		return "is as it was"
	}
	return "put"
}
