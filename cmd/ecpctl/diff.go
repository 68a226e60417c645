package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
)

func (a *app) diffCommand() *cobra.Command {
	f := &applyFlags{}
	cmd := &cobra.Command{
		Use:   "diff --fleet FLEET [-f FILE|DIR|- | FROM [TO]]",
		Short: "Compare files with a fleet, or two of its revisions",
		Long: `With -f, diff shows what "ecpctl apply" of the same files would change. Without, it compares two
revisions: FROM and TO, FROM and the current one, or the current one and the one before it. Revision 0 is the
empty fleet.`,
		Example: `  ecpctl diff --fleet edge -f edge/
  ecpctl diff --fleet edge -f edge/ --prune
  ecpctl diff --fleet edge
  ecpctl diff --fleet edge 12 14`,
		Args: cobra.MaximumNArgs(2),
	}
	flags := cmd.Flags()
	addFleet(cmd, &f.fleet, "fleet to compare with")
	flags.StringArrayVarP(&f.files, "filename", "f", nil, "`FILE`, folder, or - for standard input; repeatable")
	flags.BoolVarP(&f.recursive, "recursive", "R", false, "read the folders in a folder too")
	flags.BoolVar(&f.prune, "prune", false, "show what is not in the files as removed")
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
		if len(f.files) == 0 {
			return a.diffRevisions(cmd.Context(), c, f.fleet, args)
		}
		if len(args) > 0 {
			return misuse("give either files or revisions")
		}
		f.force = true // showing what would go is the point
		p, err := a.read(f)
		if err != nil {
			return err
		}
		return a.tryOut(cmd.Context(), c, f, p)
	})
	return cmd
}

func (a *app) diffRevisions(ctx context.Context, c *client.Client, fleet string, args []string) error {
	if err := needFleet(fleet); err != nil {
		return err
	}
	var numbers []uint64
	for _, arg := range args {
		n, err := strconv.ParseUint(arg, 10, 64)
		if err != nil {
			return misuse("%q is not a revision", arg)
		}
		numbers = append(numbers, n)
	}
	q := client.DiffQuery{Content: true}
	if len(numbers) > 0 {
		q.From = &numbers[0]
	}
	var to uint64
	if len(numbers) > 1 {
		to = numbers[1]
	} else {
		row, err := c.GetFleet(ctx, fleet)
		if err != nil {
			return err
		}
		to = row.Revision
	}
	if to == 0 {
		return misuse("revision 0 is the empty fleet; there is nothing newer to compare it with")
	}
	d, err := c.Diff(ctx, fleet, to, q)
	if err != nil {
		return err
	}
	if !a.forPeople() {
		return a.show(d, nil)
	}
	a.say("fleet %s: %s from revision %d to %d", fleet, plural(len(d.Changed), "change"), d.From, d.To)
	a.sayDiff(d.Changed)
	return nil
}
