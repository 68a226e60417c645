package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

// demotion is what demote is to do with which nodes.
type demotion struct {
	ignoreMissing bool
	wait          time.Duration
}

func (a *app) clusterDemote() *cobra.Command {
	d := &demotion{}
	cmd := &cobra.Command{
		Use:   "demote NODE...",
		Short: "Have nodes give their votes up",
		Long: `Demote has nodes give their votes up, to others if there are any; they go on serving. Votes move one after the other, while
the voters that are left have a live majority. It lasts until "ecpctl cluster promote", or until the node is started
anew: then its --voter counts. Silent nodes without a vote are passed over.`,
		Example: `  ecpctl cluster demote cp-3 cp-4 --wait
  ecpctl cluster demote cp-3 cp-4 --ignore-not-found --wait=1m`,
		Args: cobra.MinimumNArgs(1),
	}
	cmd.Flags().BoolVar(&d.ignoreMissing, "ignore-not-found", false, "pass over nodes that the cluster does not have")
	cmd.Flags().DurationVar(&d.wait, "wait", 0, "wait until they have no votes; alone: "+defaultWait)
	cmd.Flags().Lookup("wait").NoOptDefVal = defaultWait
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
		if d.wait < 0 {
			return misuse("--wait must not be negative")
		}
		return a.demote(cmd.Context(), c, d, args)
	})
	return cmd
}

func (a *app) demote(ctx context.Context, c *client.Client, d *demotion, names []string) error {
	cl, err := c.Cluster(ctx)
	if err != nil {
		return err
	}
	told := []wire.NodeVoting{}
	for _, name := range names {
		n := nodeIn(cl, name)
		if n == nil && d.ignoreMissing || n != nil && n.Role == wire.RoleNonvoter && !n.Healthy {
			continue
		}
		done, err := c.DemoteNode(ctx, name)
		if err != nil {
			return fmt.Errorf("demote node %s: %w", name, err)
		}
		told = append(told, *done)
	}
	if d.wait > 0 {
		if err := awaitNoVotes(ctx, c, told, d.wait); err != nil {
			return err
		}
	}
	return a.show(told, func(t *table) {
		for _, n := range told {
			t.line("node %s gives its vote up", clean(n.Node))
		}
		if len(told) == 0 {
			t.line("no node to demote")
		}
	})
}

// awaitNoVotes looks until none of the nodes votes.
func awaitNoVotes(ctx context.Context, c *client.Client, nodes []wire.NodeVoting, wait time.Duration) error {
	for until := time.Now().Add(wait); ; {
		cl, err := c.Cluster(ctx)
		if err != nil {
			return err
		}
		voting := ""
		for _, told := range nodes {
			if n := nodeIn(cl, told.Node); n != nil && n.Role == wire.RoleVoter {
				voting = n.ID
			}
		}
		switch {
		case voting == "":
			return nil
		case time.Now().After(until):
			return &exitError{code: exitWait, err: fmt.Errorf("node %s votes after %s: %s", voting, wait, clean(cl.Plan))}
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func nodeIn(cl *wire.Cluster, id string) *wire.Node {
	for i := range cl.Nodes {
		if cl.Nodes[i].ID == id {
			return &cl.Nodes[i]
		}
	}
	return nil
}

func (a *app) clusterPromote() *cobra.Command {
	return &cobra.Command{
		Use:   "promote NODE",
		Short: "Have a node that was demoted be ready for a vote again",
		Long: `Promote takes back "ecpctl cluster demote". The node votes when the cluster has use for another voter: an odd number of
them, five at most.`,
		Example: `  ecpctl cluster promote cp-3`,
		Args:    cobra.ExactArgs(1),
		RunE: a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
			done, err := c.UndemoteNode(cmd.Context(), args[0])
			if err != nil {
				return fmt.Errorf("promote node %s: %w", args[0], err)
			}
			return a.show(done, func(t *table) { t.line("node %s may vote again", clean(done.Node)) })
		}),
	}
}
