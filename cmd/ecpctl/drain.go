package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
)

func (a *app) clusterDrain() *cobra.Command {
	var within time.Duration
	var wait bool
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Have a node hand its xDS streams over to the others",
		Long: `Drain has a node refuse new xDS streams and hand those that it has over to the other nodes, evenly within the
time. The node is not ready meanwhile, and goes on answering the API; if it leads, leadership moves. It lasts
until "ecpctl cluster undrain", or until the node is started anew.`,
		Example: `  ecpctl cluster drain cp-2
  ecpctl cluster drain cp-2 --within 1m --wait`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().DurationVar(&within, "within", 0, "time to spread it over (default: the node's --drain-time)")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the node has no stream")
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
		if within < 0 {
			return misuse("--within must not be negative")
		}
		done, err := c.DrainNode(cmd.Context(), args[0], within)
		if err != nil {
			return fmt.Errorf("drain node %s: %w", args[0], err)
		}
		if wait {
			if err := awaitNoStreams(cmd.Context(), c, args[0]); err != nil {
				return err
			}
		}
		return a.show(done, func(t *table) {
			if wait {
				t.line("node %s has no streams", clean(done.Node))
			} else {
				t.line("node %s is draining", clean(done.Node))
			}
		})
	})
	return cmd
}

// awaitNoStreams looks until a node has no stream.
func awaitNoStreams(ctx context.Context, c *client.Client, node string) error {
	for {
		cl, err := c.Cluster(ctx)
		if err != nil {
			return err
		}
		for _, n := range cl.Nodes {
			if n.ID == node && n.Draining && n.Streams == 0 {
				return nil
			}
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (a *app) clusterUndrain() *cobra.Command {
	return &cobra.Command{
		Use:     "undrain NODE",
		Short:   "Have a node take xDS streams again",
		Example: `  ecpctl cluster undrain cp-2`,
		Args:    cobra.ExactArgs(1),
		RunE: a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
			done, err := c.UndrainNode(cmd.Context(), args[0])
			if err != nil {
				return fmt.Errorf("undrain node %s: %w", args[0], err)
			}
			return a.show(done, func(t *table) { t.line("node %s takes streams again", clean(done.Node)) })
		}),
	}
}
