package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

func (a *app) rollbackCommand() *cobra.Command {
	f := &applyFlags{}
	var to uint64
	cmd := &cobra.Command{
		Use:   "rollback --fleet FLEET --to REVISION",
		Short: "Make a new revision with the content of an older one",
		Long: `Rollback takes up the content of an older revision again, as a new revision. "ecpctl get revisions" and
"ecpctl history" show which there are; --dry-run shows what would change. One that the nodes hold no more comes
from the archive.`,
		Example: `  ecpctl rollback --fleet edge --to 12 -m "13 breaks /login" --wait
  ecpctl rollback --fleet edge --to 12 --dry-run`,
		Args: noArguments,
	}
	expect := addChangeFlags(cmd, f)
	cmd.Flags().Uint64Var(&to, "to", 0, "`REVISION` to go back to")
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, _ []string) error {
		if err := needFleet(f.fleet); err != nil {
			return err
		}
		if to == 0 {
			return misuse("--to is needed: the revision to go back to")
		}
		if f.dryRun && f.wait > 0 {
			return misuse("--dry-run changes nothing to --wait for")
		}
		in := wire.Rollback{To: to, Message: f.message}
		if cmd.Flags().Changed("expect-revision") {
			in.ExpectRevision = expect
		}
		return a.revise(cmd.Context(), c, f, func(o client.ChangeOptions) (*wire.Changed, error) {
			return c.Rollback(cmd.Context(), f.fleet, in, o)
		})
	})
	return cmd
}

// revise makes a revision, or tries it out, as the flags say, and waits for it
// when they do.
func (a *app) revise(
	ctx context.Context, c *client.Client, f *applyFlags, change func(client.ChangeOptions) (*wire.Changed, error),
) error {
	changed, err := change(client.ChangeOptions{DryRun: f.dryRun, Force: f.force, Content: f.dryRun})
	if err != nil {
		return err
	}
	done := &applied{Tenant: c.Tenant(), Fleet: f.fleet, Change: changed}
	if f.dryRun {
		a.sayTrial(f.fleet, changed)
	} else {
		a.sayChanged(f.fleet, changed)
	}
	if f.wait > 0 {
		done.Status, err = a.await(ctx, c, f.fleet, changed.Revision, f.wait)
	}
	if !a.forPeople() {
		if failed := a.show(done, nil); failed != nil {
			return failed
		}
	}
	return err
}
