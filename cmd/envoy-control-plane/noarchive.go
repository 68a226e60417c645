package main

import (
	"context"
	"log/slog"

	"github.com/org/envoy-control-plane/cluster"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// withoutArchive stands in for the archive on a node without a database. When
// the node leads a cluster whose events wait for one, it says so, or, when it
// was told that there is none any more, takes the archive out of the cluster.
type withoutArchive struct {
	log     *slog.Logger
	cluster *cluster.Node
	off     bool
}

// Run does so each time that the node becomes leader.
func (w *withoutArchive) Run(ctx context.Context) error {
	return w.cluster.WhileLeading(ctx, func(ctx context.Context, _ uint64) error {
		if !w.cluster.State().Archive().GetEnabled() {
			return nil
		}
		if !w.off {
			w.log.Error("events wait for an archive and this node, which leads, has no --database-url: " +
				"writes will stop when the outbox is full; give it the database, or say --database-url none")
			return nil
		}
		_, err := w.cluster.Propose(ctx, &fsmpb.Command{By: "archive", Op: &fsmpb.Command_ConfigureArchive{
			ConfigureArchive: &fsmpb.ConfigureArchive{Settings: &fsmpb.ArchiveSettings{}},
		}})
		if err != nil {
			w.log.Warn("the archive is not out of the cluster yet", "error", err)
			return nil
		}
		w.log.Info("the archive is out of the cluster")
		return nil
	})
}
