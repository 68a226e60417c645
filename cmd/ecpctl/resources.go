package main

import (
	"context"
	"iter"
	"strings"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

func (a *app) getResources() *cobra.Command {
	var fleet string
	var q client.ResourceQuery
	cmd := &cobra.Command{
		Use:     "resources --fleet FLEET [--type TYPE] [NAME]",
		Aliases: []string{"resource"},
		Short:   "Show a fleet's resources",
		Long: `Show a fleet's resources, of the current revision or an older one. The table lists them; -o yaml and -o json
have the messages, in a form that "ecpctl apply" takes. TYPE is listener, route, scoped_route, virtual_host, cluster,
runtime, extension, or a type URL.`,
		Example: `  ecpctl get resources --fleet edge
  ecpctl get resources --fleet edge --type cluster web -o yaml
  ecpctl get resources --fleet edge --revision 12 -o yaml > edge-12.yaml`,
		Args: cobra.MaximumNArgs(1),
	}
	addFleet(cmd, &fleet, "fleet that the resources are of")
	cmd.Flags().StringVar(&q.Type, "type", "", "only resources of this `TYPE`")
	cmd.Flags().Uint64Var(&q.Revision, "revision", 0, "as of this `REVISION`; 0 is the current one")
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
		if err := needFleet(fleet); err != nil {
			return err
		}
		switch {
		case len(args) == 1 && q.Type != "":
			key := wire.ResourceKey{Type: q.Type, Name: args[0]}
			one, err := c.GetResource(cmd.Context(), fleet, key, q.Revision)
			return showOne(a, one, err, resourceRows)
		case len(args) == 1:
			all, err := named(cmd.Context(), c, fleet, q, args[0])
			return showAll(a, all, err, resourceRows)
		default:
			all, err := client.Collect(c.Resources(cmd.Context(), fleet, q))
			return showAll(a, all, err, resourceRows)
		}
	})
	return cmd
}

// named finds a fleet's resources of a name, whatever their types.
func named(
	ctx context.Context, c *client.Client, fleet string, q client.ResourceQuery, name string,
) ([]wire.Resource, error) {
	var found []wire.Resource
	for r, err := range c.Resources(ctx, fleet, q) {
		if err != nil {
			return nil, err
		}
		if r.Name == name {
			found = append(found, r)
		}
	}
	if len(found) == 0 {
		code := wire.CodeResourceNotFound
		return nil, &client.Error{Status: code.Status(), Code: code, Detail: "fleet " + fleet + " has no resource " + name}
	}
	return found, nil
}

func resourceRows(t *table, items ...wire.Resource) {
	t.row("TYPE", "NAME", "VERSION", "TTL", "ALIASES")
	for _, i := range items {
		t.row(i.Type, i.Name, i.Version, i.TTL, strings.Join(i.Aliases, ","))
	}
}

// showOne shows one item, as a table of one row to people.
func showOne[T any](a *app, item *T, err error, rows func(*table, ...T)) error {
	if err != nil {
		return err
	}
	return a.show(item, func(t *table) { rows(t, *item) })
}

// showAll shows a list.
func showAll[T any](a *app, items []T, err error, rows func(*table, ...T)) error {
	if err != nil {
		return err
	}
	return a.show(list(items), func(t *table) { rows(t, items...) })
}

// showWritten shows programs what was written before an error, if anything was.
func showWritten[T any](a *app, written []T, err error) error {
	if !a.forPeople() && len(written) > 0 {
		if failed := a.show(list(written), nil); failed != nil {
			return failed
		}
	}
	return err
}

// first reads as many items as wanted, all for 0.
func first[T any](items iter.Seq2[T, error], limit int) ([]T, error) {
	var all []T
	for item, err := range items {
		if err != nil {
			return nil, err
		}
		all = append(all, item)
		if len(all) == limit {
			break
		}
	}
	return all, nil
}
