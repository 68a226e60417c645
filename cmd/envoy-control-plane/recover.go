package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/cluster"
)

// recoverCommand makes a survivor's data the cluster.
func recoverCommand() *cobra.Command {
	var dir, token string
	var voters []string
	var yes bool
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Make a survivor the cluster after a majority is lost for good",
		Long: `Rebuild the membership on a stopped survivor after a majority of the voters is
lost for good. Without --yes it only says what it would do.

All that the survivor's log holds counts as committed; what only the lost nodes
had is gone. So choose the survivor with the newest data: doctor names it. A new
epoch begins, and nodes with data from before are refused from then on: their
data directories must be moved aside. Nodes with empty ones join the recovered
cluster and are promoted.

A voter is <node id>=<host>:<raft port>. One voter, the survivor itself, is all
that is needed. Another survivor can be a voter too when its data ends at the
same index and term: name it <node id>/<incarnation>=..., as doctor shows it
there, and run the same command on it with the --recovery of this one.`,
		Example: `  envoy-control-plane recover --data-dir /var/lib/ecp --voters cp-0=cp-0.example.com:7000
  envoy-control-plane recover --data-dir /var/lib/ecp --voters cp-0=cp-0.example.com:7000 --yes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			parsed, err := cluster.ParseVoters(voters)
			if err != nil {
				return usageError{fmt.Errorf("--voters: %w", err)}
			}
			r, err := cluster.PlanRecovery(dir, parsed, token)
			if err != nil {
				return err
			}
			err = writeRecovery(cmd.OutOrStdout(), r, yes)
			if err != nil || !yes {
				return err
			}
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
			if err := r.Do(log); err != nil {
				return err
			}
			return writeRecovered(cmd.OutOrStdout(), r)
		},
	}
	cmd.Flags().StringVar(&dir, "data-dir", cmp.Or(os.Getenv("DATA_DIR"), "./data"), "data directory of the stopped survivor [DATA_DIR]")
	cmd.Flags().StringSliceVar(&voters, "voters", nil, "voters of the recovered cluster, comma-separated")
	cmd.Flags().StringVar(&token, "recovery", "", "what the first of several voters has printed")
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	return cmd
}

// writeRecovery says what was found and what comes of it.
func writeRecovery(out io.Writer, r *cluster.Recovery, yes bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(w, name+"\t"+format+"\n", args...) }
	line("data directory", "%s", r.Dir)
	line("node", "%s", r.ServerID())
	line("cluster", "%s", r.Identity.ClusterId)
	if r.Unfinished {
		line("recovery", "%s was decided and not carried out: it is finished now", r.ID)
	} else {
		line("epoch", "%s becomes %s", r.Epoch(), r.ID)
		line("data ends at", "index %d, term %d", r.LastIndex, r.LastTerm)
		if r.LastIndex > r.Committed {
			line("uncommitted", "entries %d to %d may not have been committed: they count as committed", r.Committed+1, r.LastIndex)
		}
		for _, m := range members(r.Members()) {
			line("old member", "%s", m)
		}
		for _, m := range members(r.NewMembers()) {
			line("new member", "%s", m)
		}
		for _, warning := range r.Warnings {
			line("warning", "%s", warning)
		}
	}
	err := w.Flush()
	if !yes {
		_, more := fmt.Fprintf(out, "\nNothing was changed. See with doctor that no other survivor has newer data, and that the lost nodes are down.\nThen add: %s\n",
			strings.TrimSpace("--yes "+again(r)))
		err = errors.Join(err, more)
	}
	return err
}

// again makes a second run the same recovery.
func again(r *cluster.Recovery) string {
	if r.Unfinished {
		return ""
	}
	return "--recovery " + r.Token
}

// writeRecovered says what is to be done next.
func writeRecovered(out io.Writer, r *cluster.Recovery) error {
	_, err := fmt.Fprintf(out, "\nrecovered: %s\n", r.ID)
	if len(r.Voters) > 1 {
		_, more := fmt.Fprintf(out, "Next: run the same on the other voters, with %s; then start them all.\n", again(r))
		err = errors.Join(err, more)
	}
	_, more := fmt.Fprintln(out, `Start the node as ever. Move the data directories of all other nodes aside: they join as new ones and are promoted.
What is left of them on disk must not be started again.`)
	return errors.Join(err, more)
}
