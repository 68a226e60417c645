package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/cmd/envoy-control-plane/dev"
)

func devCommand() *cobra.Command {
	o := dev.Options{}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole cluster on this machine, with Envoys and an archive",
		Long: `Run a whole cluster on 127.0.0.1: nodes as processes of their own (so that one
can be killed), a Postgres for the archive, Envoys, a demo upstream and a
sample fleet. It prints what runs where and what to try; Ctrl-C stops all of
it, and the data in --dir stays.`,
		Example: `  envoy-control-plane dev
  envoy-control-plane dev --nodes 1 --postgres none
  envoy-control-plane dev --port-offset 1000 --dir /tmp/other --envoys 2`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			bin, err := os.Executable()
			if err != nil {
				return err
			}
			o.Bin, o.Out = bin, cmd.OutOrStdout()
			return dev.Run(cmd.Context(), o)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&o.Nodes, "nodes", 3, "how many nodes")
	flags.IntVar(&o.Envoys, "envoys", 1, "how many Envoys")
	flags.StringVar(&o.Dir, "dir", ".dev", "folder of all data and logs")
	flags.IntVar(&o.PortOffset, "port-offset", 0, "added to every port; node i adds i")
	flags.StringVar(&o.Postgres, "postgres", "auto", "auto, none, or the URL of a database")
	flags.BoolVar(&o.Reset, "reset", false, "begin with an empty --dir")
	return cmd
}
