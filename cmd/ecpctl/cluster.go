package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

func (a *app) clusterCommand() *cobra.Command {
	show := a.withClient(func(cmd *cobra.Command, c *client.Client, _ []string) error {
		return a.cluster(cmd.Context(), c)
	})
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Show the control plane's own nodes, move its leadership, drain, demote or remove a node, refuse writes",
		Example: `  ecpctl cluster
  ecpctl cluster transfer cp-1
  ecpctl cluster drain cp-2 --wait
  ecpctl cluster remove cp-4
  ecpctl cluster read-only on -m "moving the database"`,
		Args: cobra.NoArgs,
		RunE: show,
	}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "list",
			Short: "Show the nodes and the archive",
			Example: `  ecpctl cluster list
  ecpctl cluster list -o json`,
			Args: noArguments,
			RunE: show,
		},
		a.clusterTransfer(),
		a.clusterRemove(),
		a.clusterDrain(),
		a.clusterUndrain(),
		a.clusterDemote(),
		a.clusterPromote(),
		a.clusterReadOnly(),
		a.clusterFinalize(),
	)
	return cmd
}

func (a *app) cluster(ctx context.Context, c *client.Client) error {
	cl, err := c.Cluster(ctx)
	if err != nil {
		return err
	}
	return a.show(cl, func(t *table) {
		t.line("cluster %s, leader %s, term %d, index %d", clean(cl.ID), clean(cmp.Or(cl.Leader, "unknown")), cl.Term, cl.Index)
		if cl.Plan != "" {
			t.line("membership: %s", clean(cl.Plan))
		}
		t.line("archive %s", archive(cl.Archive))
		if cl.Backup != nil {
			t.line("backups %s", backups(*cl.Backup))
		}
		t.line("feature level %d", cl.FeatureLevel)
		if cl.ReadOnly != nil {
			t.line("%s", readOnly(*cl.ReadOnly))
		}
		t.line("")
		t.row("NODE", "ROLE", "LEADER", "HEALTH", "APPLIED", "STREAMS", "ADDRESS", "ZONE", "BUILD", "SUPPORTS")
		for _, n := range cl.Nodes {
			t.row(n.ID, n.Role, mark(n.Leader), health(n), n.Applied, n.Streams, n.Address, n.Zone, n.Build, n.SupportedLevel)
		}
	})
}

func archive(s wire.ArchiveStatus) string {
	if s.State == wire.ArchiveOff {
		return s.State
	}
	return fmt.Sprintf("%s, %d of %d events, %d bytes waiting%s",
		clean(s.State), s.ArchivedSeq, s.LastSeq, s.OutboxBytes, after(": ", s.Reason))
}

func backups(s wire.BackupStatus) string {
	last := "none yet"
	if s.Last != nil {
		last = fmt.Sprintf("last %s, index %d, %d bytes", s.Last.At.UTC().Format(time.RFC3339), s.Last.Index, s.Last.Bytes)
	}
	return fmt.Sprintf("%s, to %s, %s%s", clean(s.State), clean(s.Target), last, after(": ", s.Reason))
}

func mark(leader bool) string {
	if leader {
		return "leader"
	}
	return ""
}

func health(n wire.Node) string {
	if n.Healthy && n.Draining {
		return "draining"
	}
	if n.Healthy {
		return "healthy"
	}
	word := "unhealthy"
	if n.Stale {
		word = "stale"
	}
	return word + after(": ", n.Reason)
}

// after puts a separator before a text that is there.
func after(separator, text string) string {
	if text == "" {
		return ""
	}
	return separator + clean(text)
}

func (a *app) clusterTransfer() *cobra.Command {
	return &cobra.Command{
		Use:   "transfer [NODE]",
		Short: "Move leadership to a node, or to any other",
		Example: `  ecpctl cluster transfer
  ecpctl cluster transfer cp-1`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
			to := ""
			if len(args) == 1 {
				to = args[0]
			}
			done, err := c.TransferLeader(cmd.Context(), to)
			if err != nil {
				return err
			}
			return a.show(done, func(t *table) { t.line("the leader is %s", clean(cmp.Or(done.Leader, "not known yet"))) })
		}),
	}
}

func (a *app) clusterRemove() *cobra.Command {
	return &cobra.Command{
		Use:   "remove NODE",
		Short: "Take a node out of the cluster for good",
		Long: `Remove takes a node out of the cluster: one after the other before a cluster is scaled down. It is refused when
the voters that are left would have no live majority. The removed node becomes not ready, hands its xDS streams over and
stays out, over restarts too, until its data directory is emptied. A node that only stops, or is replaced under its own
name, needs no removing.`,
		Example: `  ecpctl cluster remove cp-4`,
		Args:    cobra.ExactArgs(1),
		RunE: a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
			done, err := c.RemoveNode(cmd.Context(), args[0])
			if err != nil {
				return fmt.Errorf("remove node %s: %w", args[0], err)
			}
			return a.show(done, func(t *table) { t.line("node %s removed", clean(done.Node)) })
		}),
	}
}
