package main

import (
	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
)

func (a *app) clusterFinalize() *cobra.Command {
	return &cobra.Command{
		Use:   "finalize",
		Short: "Raise the feature level, once every node runs the new binary",
		Long: `Finalize raises the feature level of the cluster to that of its nodes' binaries. Until then going back to the
older binary is safe; after it that one refuses to start. It is refused, naming them, while there are nodes that do
not support the level or do not answer.`,
		Example: `  ecpctl cluster finalize`,
		Args:    noArguments,
		RunE: a.withClient(func(cmd *cobra.Command, c *client.Client, _ []string) error {
			done, err := c.Finalize(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(done, func(t *table) { t.line("feature level %d (index %d)", done.FeatureLevel, done.Index) })
		}),
	}
}
