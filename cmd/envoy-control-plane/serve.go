package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/org/envoy-control-plane/api"
	"github.com/org/envoy-control-plane/archive"
	"github.com/org/envoy-control-plane/archive/rollup"
	"github.com/org/envoy-control-plane/cluster"
	"github.com/org/envoy-control-plane/cluster/backup"
	"github.com/org/envoy-control-plane/xds"
)

func serveCommand() *cobra.Command {
	c := &config{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a node",
		Long: `Run a node of a control plane cluster. Flags win over the environment (--node-id
is NODE_ID, and so on, see the README), that over the YAML file of --config.

SIGTERM drains the node and ends it with exit code 0; a second one ends it at
once.`,
		Example: `  # A cluster of one, for yourself:
  envoy-control-plane serve --bind 127.0.0.1

  # One of three that find each other by name:
  envoy-control-plane serve --node-id cp-0 --advertise cp-0.example.com \
    --join cp-0.example.com,cp-1.example.com,cp-2.example.com --bootstrap-expect 3 \
    --jwt-secret-file /run/secrets/jwt --database-url postgres://ecp@db/envoy_control`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.load(cmd.Flags(), os.Getenv); err != nil {
				return usageError{err}
			}
			s, err := newServer(c, newLogger(c, cmd.ErrOrStderr()))
			if err != nil {
				return err
			}
			defer holdHeap()()
			return s.run(cmd.Context())
		},
	}
	c.register(cmd.Flags())
	return cmd
}

// server is a node with all its parts.
type server struct {
	cfg      *config
	log      *slog.Logger
	registry *prometheus.Registry
	group    *group

	cluster *cluster.Node
	xds     *xds.Server
	archive *archive.Archive  // nil without a database
	metrics *rollup.Collector // nil where those of proxies are not kept
	backup  *backup.Keeper    // nil where no backups are made
	api     *api.Server
	reaper  *reaper
	grpc    *grpc.Server

	// What runs, in the order in which it stops.
	apiPart, reaperPart, archivePart, xdsPart, grpcPart, rollupPart, clusterPart, backupPart, metricsPart *part
}

// run starts the node and keeps it until ctx ends, then stops it in order. An
// error means that a part failed.
func (s *server) run(ctx context.Context) error {
	s.log.Info("starting", "version", version, "http", s.cfg.address(s.cfg.httpPort),
		"xds", s.cfg.address(s.cfg.xdsPort), "metrics", s.cfg.address(s.cfg.metricsPort))
	switch n := len(s.cfg.jwtSecret); {
	case n == 0:
		s.log.Warn("authentication is off: everybody who can connect is an administrator")
	case n < 32:
		s.log.Warn("the JWT secret can be guessed: it should have 32 bytes or more", "bytes", n)
	}
	if s.archive == nil {
		s.log.Warn("no database: events are not archived, recent history is kept in memory")
	}
	if err := s.start(ctx); err != nil {
		s.stop()
		return err
	}
	var failure error
	select {
	case <-ctx.Done():
		s.log.Info("stopping")
	case failure = <-s.group.failed:
		s.log.Error("stopping", "error", failure)
	}
	s.stop()
	s.log.Info("stopped")
	return failure
}

// start starts the parts:
//  1. metrics, so that the rest can be watched;
//  2. the cluster;
//  3. what follows the state: xDS' fan-out, the archive, backups;
//  4. the API, which answers health and says why it is not ready yet;
//  5. the xDS port, once the node has caught up with the cluster, because a
//     proxy that comes over from another node must not be sent an older state;
//     or once it has waited for a majority in vain, see serveXDS.
func (s *server) start(ctx context.Context) error {
	var lc net.ListenConfig
	listen := func(port int) (net.Listener, error) { return lc.Listen(ctx, "tcp", s.cfg.address(port)) }
	metricsListener, err := listen(s.cfg.metricsPort)
	if err != nil {
		return fmt.Errorf("metrics port: %w", err)
	}
	s.metricsPart = s.group.start("metrics", serveHTTP(metricsServer(s.registry, s.log), metricsListener))
	apiListener, err := listen(s.cfg.httpPort)
	if err != nil {
		return fmt.Errorf("http port: %w", err)
	}
	xdsListener, err := listen(s.cfg.xdsPort)
	if err != nil {
		return errors.Join(fmt.Errorf("xds port: %w", err), apiListener.Close())
	}
	s.clusterPart = s.group.start("cluster", s.cluster.Run)
	s.xdsPart = s.group.start("xds", s.xds.Run)
	if s.archive != nil {
		s.archivePart = s.group.start("archive", s.archive.Run)
	} else {
		none := &withoutArchive{log: s.log, cluster: s.cluster, off: s.cfg.archiveOff}
		s.archivePart = s.group.start("archive", none.Run)
	}
	if s.metrics != nil {
		s.rollupPart = s.group.start("metrics of proxies", s.metrics.Run)
	}
	s.reaperPart = s.group.start("reaper", s.reaper.Run)
	if s.backup != nil {
		s.backupPart = s.group.start("backup", s.backup.Run)
	}
	s.apiPart = s.group.start("api", func(ctx context.Context) error { return s.api.Serve(ctx, apiListener) })
	s.grpcPart = s.group.start("xds port", func(ctx context.Context) error { return s.serveXDS(ctx, xdsListener) })
	return nil
}

// stop ends the parts so that clients that try again elsewhere lose nothing:
//  1. the API answers what it has and takes no more;
//  2. leadership moves, so that writes go on elsewhere;
//  3. the archive's writer ends, another leader's has begun;
//  4. xDS streams end in small steps and come up on other nodes;
//  5. what proxies have measured until then is written;
//  6. the node leaves gossip and stops Raft and its stores;
//  7. a backup that is being made has ended with the leadership; its target
//     may hang, so that it is not waited for;
//  8. metrics last.
func (s *server) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.stopTimeout)
	defer cancel()
	if s.apiPart != nil {
		if err := s.api.Shutdown(ctx); err != nil {
			s.log.Warn("requests were cut off", "error", err)
		}
	}
	s.group.stop(ctx, s.apiPart)
	s.group.stop(ctx, s.reaperPart)
	if err := s.cluster.StepDown(ctx); err != nil {
		s.log.Warn("leadership was not handed over", "error", err)
	}
	s.group.stop(ctx, s.archivePart)
	if s.grpcPart != nil {
		s.xds.Drain(ctx)
	}
	s.group.stop(ctx, s.grpcPart)
	s.group.stop(ctx, s.xdsPart)
	s.group.stop(ctx, s.rollupPart)
	if s.clusterPart != nil {
		if err := s.cluster.Leave(ctx); err != nil {
			s.log.Warn("leaving the cluster", "error", err)
		}
	}
	s.group.stop(ctx, s.clusterPart)
	soon, cancelSoon := context.WithTimeout(ctx, time.Second)
	defer cancelSoon()
	s.group.stop(soon, s.backupPart)
	s.group.stop(ctx, s.metricsPart)
}

// serveHTTP runs a plain HTTP server as a part.
func serveHTTP(server *http.Server, ln net.Listener) func(context.Context) error {
	return func(ctx context.Context) error {
		served := make(chan error, 1)
		go func() { served <- server.Serve(ln) }()
		select {
		case err := <-served:
			return err
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			err := server.Shutdown(ctx)
			if end := <-served; !errors.Is(end, http.ErrServerClosed) {
				err = errors.Join(err, end)
			}
			return err
		}
	}
}
