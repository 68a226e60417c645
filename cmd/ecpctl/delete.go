package main

import (
	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

func (a *app) deleteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete",
		Short: "Delete tenants, fleets, resources and proxies",
		Example: `  ecpctl delete resource --fleet edge listener old
  ecpctl delete proxy edge-7`,
		Args: cobra.NoArgs,
		RunE: needsVerb,
	}
	cmd.AddCommand(a.deleteTenant(), a.deleteFleet(), a.deleteResource(), a.deleteProxy())
	return cmd
}

func (a *app) deleteTenant() *cobra.Command {
	return &cobra.Command{
		Use:     "tenant NAME",
		Short:   "Delete a tenant that is empty",
		Example: `  ecpctl delete tenant acme`,
		Args:    cobra.ExactArgs(1),
		RunE: a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
			d, err := c.DeleteTenant(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.deleted("tenant "+args[0], d)
		}),
	}
}

func (a *app) deleteFleet() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "fleet NAME",
		Short: "Delete a fleet; its proxies keep what they have",
		Example: `  ecpctl delete fleet staging
  ecpctl delete fleet staging --force`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().BoolVar(&force, "force", false, "even with connected proxies")
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
		d, err := c.DeleteFleet(cmd.Context(), args[0], force)
		if err != nil {
			return err
		}
		return a.deleted("fleet "+args[0], d)
	})
	return cmd
}

func (a *app) deleteResource() *cobra.Command {
	f := &applyFlags{}
	cmd := &cobra.Command{
		Use:   "resource --fleet FLEET TYPE NAME...",
		Short: "Delete resources of a fleet, as one revision",
		Example: `  ecpctl delete resource --fleet edge listener old
  ecpctl delete resource --fleet edge cluster a b -m "not used" --wait`,
		Args: cobra.MinimumNArgs(2),
	}
	expect := addChangeFlags(cmd, f)
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
		if err := needFleet(f.fleet); err != nil {
			return err
		}
		if f.dryRun && f.wait > 0 {
			return misuse("--dry-run changes nothing to --wait for")
		}
		set := wire.ChangeSet{Message: f.message}
		if cmd.Flags().Changed("expect-revision") {
			set.ExpectRevision = expect
		}
		for _, name := range args[1:] {
			set.Delete = append(set.Delete, wire.ResourceKey{Type: args[0], Name: name})
		}
		return a.revise(cmd.Context(), c, f, func(o client.ChangeOptions) (*wire.Changed, error) {
			return c.Change(cmd.Context(), f.fleet, set, o)
		})
	})
	return cmd
}

func (a *app) deleteProxy() *cobra.Command {
	return &cobra.Command{
		Use:     "proxy ID",
		Short:   "Forget a proxy that is not connected",
		Example: `  ecpctl delete proxy edge-7`,
		Args:    cobra.ExactArgs(1),
		RunE: a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
			d, err := c.DeleteProxy(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.deleted("proxy "+args[0], d)
		}),
	}
}
