package main

import (
	"io"
	"runtime"

	"github.com/spf13/cobra"
)

// app is one run of the program.
type app struct {
	in       io.Reader
	out, err io.Writer

	// started: the command line was understood.
	started bool
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "ecpbench",
		Short: "Measure envoy-control-plane beside baselines of the same run",
		Long: `ecpbench measures parts of envoy-control-plane beside baselines, in one run on one
machine, and prints ratios next to absolute figures.

Exit codes: 0 done, 1 failed, 2 usage, 3 --timeout ran out.`,
		Example: `  ecpbench fanout
  ecpbench fanout --fleets 1000 --streams 10000 --clusters 10 --changes 500
  ecpbench fanout --rate 1000 --for 1m --servers ecp
  ecpbench connect --streams 10000 -o json
  ecpbench write
  ecpbench failover --kills 200
  ecpbench restore
  ecpbench archive
  ecpbench events --rate 500`,
		Args:              cobra.NoArgs,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE: func(*cobra.Command, []string) error {
			return misuse("ecpbench needs one of: archive, connect, events, failover, fanout, read, restore, write")
		},
	}
	root.AddCommand(a.fanoutCommand(), a.connectCommand(), a.writeCommand(), a.readCommand(), a.failoverCommand(), a.restoreCommand(), a.archiveCommand(), a.eventsCommand(), a.serverCommand(), a.crowdCommand())
	return root
}

const about = `

In turn, as processes of their own with the same gRPC options, run b0 (a bare gRPC
server that broadcasts frames encoded beforehand), b1 (go-control-plane's
SnapshotCache, one key for all) and ecp (package xds on a state in memory).
Consensus, disk and the REST API are not part of it: a change is applied to the
state directly. All proxies subscribe to all clusters of their fleet and to the
endpoints of each by name on one aggregated stream, and acknowledge everything.

Figures are medians of the rounds; ratios are to b0. All traffic stays on 127.0.0.1.`

func (a *app) fanoutCommand() *cobra.Command {
	o := &options{}
	cmd := &cobra.Command{
		Use:   "fanout",
		Short: "Measure what one endpoint change to all proxies costs the xDS server",
		Long: `fanout connects proxies and changes one endpoint at a time; the next change begins
when the server has read every acknowledgement of the one before. It measures the
server's CPU per delivered and acknowledged update, the time until the last proxy
has a change, bytes on the wire, memory per idle proxy, and what applying an
unrelated write takes while nothing else happens and while a change is pushed.

With --fleets the proxies are spread over fleets with clusters of their own, and
changes go to one after the other. With --rate changes are written at a rate, however
long they take, and what is measured is how they are put together, the memory that
takes, and the time from the last one until the last proxy has it.` + about,
		Example: `  ecpbench fanout
  ecpbench fanout --fleets 1000 --streams 10000 --clusters 10 --changes 500
  ecpbench fanout --rate 1000 --for 1m --servers ecp
  ecpbench fanout --streams 10000 --rounds 3 --timeout 30m
  ecpbench fanout --protocol sotw --servers b0,ecp --profile /tmp/profiles -o json`,
		Args: cobra.NoArgs,
	}
	o.addFlags(cmd.Flags())
	o.addFanout(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.checkFanout(); err != nil {
			return err
		}
		return a.measure(cmd.Context(), "fanout", o)
	}
	return cmd
}

func (a *app) connectCommand() *cobra.Command {
	o := &options{}
	cmd := &cobra.Command{
		Use:   "connect",
		Short: "Measure what it costs the xDS server until all proxies are configured",
		Long: `connect measures the time until all proxies are connected and have their clusters
and endpoints, the server's CPU until it has read every acknowledgement, and its
memory, at its highest and settled. With --again all streams are cut then, and the
proxies come back, with what they have, to another process that serves the same:
measured are time and CPU until all are settled, and the bytes of resources that they
were sent again. There b0 believes what a proxy says that it has.

With --drain the server hands its streams over to such a process, evenly over
ten seconds, and stays; b0 and b1, which cannot, stop at once. Measured is how long a
proxy that connects anew at once has no settled stream.

With --storm all proxies come at once, from a process of their own. Ten of another
fleet are there already; it changes every 50 ms, and each change is timed until all
ten have acknowledged it.` + about,
		Example: `  ecpbench connect
  ecpbench connect --again --servers b0,ecp
  ecpbench connect --drain --streams 10000
  ecpbench connect --storm --streams 10000
  ecpbench connect --streams 10000 --parallel 1000
  ecpbench connect --protocol sotw -o json`,
		Args: cobra.NoArgs,
	}
	o.addFlags(cmd.Flags())
	cmd.Flags().BoolVar(&o.again, "again", false, "have all proxies come back to another server")
	cmd.Flags().BoolVar(&o.drain, "drain", false, "have the server hand all proxies over to another one")
	cmd.Flags().BoolVar(&o.storm, "storm", false, "have all proxies come at once, while another fleet changes")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if o.again && o.drain {
			return misuse("--again goes without --drain")
		}
		if o.storm {
			if o.again || o.drain || o.distinct || o.fleets > 1 {
				return misuse("--storm goes with none of --again, --drain, --distinct and --fleets")
			}
			o.fleets = stormFleets
		}
		return a.measure(cmd.Context(), "connect", o)
	}
	return cmd
}

// serverCommand is a server process of a run.
func (a *app) serverCommand() *cobra.Command {
	o := &options{}
	cmd := &cobra.Command{
		Use:    "server NAME",
		Short:  "Serve as one side of a measurement, until standard input ends",
		Hidden: true,
		Args:   cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs), ValidArgs: serverNames(),
	}
	o.addScene(cmd.Flags())
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if err := o.checkScene(); err != nil {
			return err
		}
		a.started = true
		if o.profiled {
			runtime.MemProfileRate = 64 << 10
		}
		b, err := newBackend(args[0], o)
		if err != nil {
			return err
		}
		return serveBackend(b, a.in, a.out)
	}
	return cmd
}

// crowdCommand is the process of a storm's proxies.
func (a *app) crowdCommand() *cobra.Command {
	o := &options{}
	cmd := &cobra.Command{
		Use:    "crowd ADDRESS",
		Short:  "Connect all proxies of a storm, until standard input ends",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
	}
	o.addScene(cmd.Flags())
	cmd.Flags().IntVar(&o.streams, "streams", 1, "proxies")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a.started = true
		return gather(cmd.Context(), o, args[0], a.in, a.out)
	}
	return cmd
}
