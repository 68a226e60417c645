package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/org/envoy-control-plane/api"
	"github.com/org/envoy-control-plane/api/resource"
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/archive"
	"github.com/org/envoy-control-plane/cluster"
	"github.com/org/envoy-control-plane/cluster/backup"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
	"github.com/org/envoy-control-plane/xds"
)

// newServer joins the parts; it starts nothing.
func newServer(c *config, log *slog.Logger) (*server, error) {
	s := &server{cfg: c, log: log, registry: newRegistry(), group: newGroup(log)}
	messages := resource.New()
	streams := xds.Deps{
		Log: log.With("part", "xds"), Registry: s.registry, Cluster: lateCluster{s}, Gather: lateCluster{s}.Gather,
		Loads: lateCluster{s}.Loads,
	}
	if c.keys != nil {
		streams.Secrets = c.keys
	}
	if c.keepsMetrics() {
		var err error
		if s.metrics, err = newMetrics(c, s); err != nil {
			return nil, err
		}
		streams.Metrics = measuring{s.metrics}
	}
	s.xds = xds.New(xds.Config{
		NodeID: c.nodeID, NodeStart: time.Now().UnixNano(), Balance: c.xdsBalance == "on", DrainTime: c.drainTime,
		ProxyGrace: cmp.Or(c.proxyGrace, -1), // 0 is no grace here, and the default there
	}, streams)
	observers := []cluster.Observer{s.xds}
	if c.databaseURL != "" {
		var err error
		s.archive, err = newArchive(c, s, messages)
		if err != nil {
			return nil, err
		}
		observers = append(observers, s.archive)
	}
	var err error
	s.cluster, err = cluster.New(clusterConfig(c), cluster.Deps{
		Log: log.With("part", "cluster"), Metrics: s.registry, Observers: observers,
		Answerer: s.xds.Answer, Streams: s.xds.Streams, Draining: s.xds.Draining, SetDraining: s.xds.SetDraining,
		Backup: s.backupReport, Archive: s.archiveReport,
	})
	if err != nil {
		return nil, err
	}
	s.registry.MustRegister(newFleetCollector(s.cluster.State))
	if c.backupTarget != nil {
		s.backup = backup.New(backup.Config{
			Target: c.backupTarget, Every: c.backupEvery, Keep: c.backupKeep, KeepFor: c.backupKeepFor,
		}, backup.Deps{Log: log.With("part", "backup"), Registry: s.registry, Cluster: s.cluster})
	}
	deps := api.Deps{
		Log: log.With("part", "api"), Registry: s.registry, Cluster: s.cluster, Resources: messages, Ready: s.parts,
	}
	if c.keys != nil {
		deps.Secrets = c.keys
	}
	if s.archive != nil {
		deps.History, deps.Past, deps.Archived, deps.Archive = history{s.archive}, history{s.archive}, archived{s.archive}, s.archiveState
	}
	s.api, err = api.New(api.Config{
		Version: version, Commit: commit, JWTSecret: []byte(c.jwtSecret), EventStreams: c.eventStreams,
	}, deps)
	if err != nil {
		return nil, err
	}
	s.reaper = &reaper{
		log: log.With("part", "reaper"), cluster: s.cluster,
		every: 5 * time.Second, grace: 15 * time.Second, retention: c.proxyRetention,
	}
	s.grpc = grpc.NewServer(append(s.xds.ServerOptions(), grpc.Creds(s.xds.Credentials(insecure.NewCredentials())))...)
	s.xds.Register(s.grpc)
	return s, nil
}

// logAhead is about what the log takes until it is cut for the first time.
const logAhead = 64 << 20

func clusterConfig(c *config) cluster.Config {
	return cluster.Config{
		NodeID: c.nodeID, DataDir: c.dataDir, Bind: c.bind, Advertise: c.advertise,
		RaftPort: c.raftPort, GossipPort: c.gossipPort, Join: c.join,
		BootstrapExpect: c.bootstrapExpect, InitialMembers: c.initialMembers,
		Restore: c.restore, FromCluster: c.fromCluster,
		NonVoter: !c.voter, Zone: c.zone, StaleAfter: c.staleAfter, FinalizeAfter: c.finalizeAfter,
		ReplaceAfter: c.replaceAfter, ForgetAfter: c.forgetAfter, LogAhead: logAhead, Build: version,
		APIAddress: c.advertised(c.httpPort), XDSAddress: c.advertised(c.xdsPort),
	}
}

func newArchive(c *config, s *server, messages *resource.Decoder) (*archive.Archive, error) {
	overflow := fsmpb.ArchiveSettings_BLOCK
	if c.archiveOverflow == "gap" {
		overflow = fsmpb.ArchiveSettings_GAP
	}
	return archive.New(archive.Config{
		DatabaseURL: c.databaseURL, ReadURL: c.databaseReadURL, Node: c.nodeID,
		Overflow: overflow, ReplayWindow: c.archiveReplayWindow,
		Retention: c.archiveRetention, MetricsRetention: c.proxyMetricsRetention,
	}, archive.Deps{
		Log: s.log.With("part", "archive"), Registry: s.registry, Cluster: lateCluster{s},
		JSON: func(typeURL string, body []byte) (json.RawMessage, error) { return messages.JSON(typeURL, body) },
	})
}

// lateCluster is the cluster for parts that are made before it, because it
// needs them as observers. Nobody calls it before everything is made.
type lateCluster struct{ s *server }

func (l lateCluster) State() *fsm.State { return l.s.cluster.State() }
func (l lateCluster) IsLeader() bool    { return l.s.cluster.IsLeader() }

func (l lateCluster) Term() uint64 {
	term, _ := l.s.cluster.Leadership()
	return term
}

func (l lateCluster) Loads() []xds.Load {
	loads := l.s.cluster.Loads()
	out := make([]xds.Load, len(loads))
	for i, load := range loads {
		out[i] = xds.Load(load)
	}
	return out
}

func (l lateCluster) Propose(ctx context.Context, c *fsmpb.Command) (*fsmpb.Result, error) {
	return l.s.cluster.Propose(ctx, c)
}

func (l lateCluster) Gather(ctx context.Context, q *fsmpb.Query) ([]*fsmpb.Answer, map[string]error) {
	return l.s.cluster.Gather(ctx, q)
}

// parts says how ready the node is, for /ready.
func (s *server) parts() []wire.Part {
	health := s.cluster.Health()
	out := []wire.Part{{
		Name: "cluster", OK: health.Ready, Degraded: len(health.Reasons) > 0, Reason: strings.Join(health.Reasons, "; "),
	}}
	if now := s.cluster.State().ReadOnly(); now != nil {
		out = append(out, wire.Part{Name: "writes", OK: true, Degraded: true, Reason: fsm.ReadOnlyReason(now)})
	}
	if s.cluster.Stale() {
		out = append(out, wire.Part{Name: "xds", OK: true, Degraded: true, Reason: fmt.Sprintf(
			"proxies are served the last committed state on this disk, index %d, which may be stale", s.cluster.State().Index())})
	}
	if s.xds.Draining() {
		out = append(out, wire.Part{Name: "xds", Reason: "draining: proxies go to other nodes"})
	}
	if shut := s.xds.ShutSecrets(); shut > 0 {
		out = append(out, wire.Part{
			Name: "secrets", OK: true, Degraded: true,
			Reason: fmt.Sprintf("%d secrets that proxies ask for cannot be opened: this node lacks their key", shut),
		})
	}
	if b := s.backupReport(); b.GetReason() != "" {
		out = append(out, wire.Part{Name: "backup", OK: true, Degraded: true, Reason: b.GetReason()})
	}
	switch {
	case s.archive == nil && s.cluster.State().Archive().GetEnabled():
		out = append(out, wire.Part{Name: "archive", OK: true, Degraded: true, Reason: "events wait for an archive and this node has no database"})
	case s.archive != nil:
		status := s.archive.Status()
		part := wire.Part{Name: "archive", OK: true, Degraded: status.State != archive.StateOK, Reason: status.Error}
		if part.Degraded && part.Reason == "" {
			part.Reason = fmt.Sprintf("%d events wait, the oldest for %s", status.LastSeq-status.ArchivedSeq, status.Lag.Round(time.Second))
		}
		if n := s.archive.Quarantined(); n > 0 && !part.Degraded {
			part.Degraded, part.Reason = true, fmt.Sprintf("Postgres refuses %d events: they are set aside in archive_quarantine", n)
		}
		out = append(out, part)
	}
	return out
}

// backupReport is nil where no backups are made.
func (s *server) backupReport() *fsmpb.BackupReport {
	if s.backup == nil {
		return nil
	}
	return s.backup.Report()
}

// archiveReport is nil without a database.
func (s *server) archiveReport() *fsmpb.ArchiveReport {
	if s.archive == nil {
		return nil
	}
	return s.archive.Report()
}

func (s *server) archiveState() (state, reason string) {
	status := s.archive.Status()
	return status.State, status.Error
}

// history lets the API read the archive.
type history struct{ archive *archive.Archive }

func (h history) History(ctx context.Context, q api.HistoryQuery) (api.HistoryPage, error) {
	events, next, err := h.archive.History(ctx, archive.HistoryQuery{
		Tenant: q.Tenant, Fleet: q.Fleet, Kind: q.Kind, By: q.By,
		Since: q.Since, Until: q.Until, Cursor: q.Cursor, Limit: q.Limit,
	})
	if err != nil {
		return api.HistoryPage{}, err
	}
	return api.HistoryPage{Events: eventsJSON(events), Next: next}, nil
}

func (h history) EventsAfter(ctx context.Context, tenant string, number uint64, limit int) ([]wire.Event, error) {
	events, err := h.archive.EventsAfter(ctx, tenant, number, limit)
	return eventsJSON(events), err
}

func (h history) OwnEventsAfter(ctx context.Context, seq uint64, limit int) ([]wire.Event, uint64, error) {
	events, through, err := h.archive.OwnEventsAfter(ctx, seq, limit)
	return eventsJSON(events), through, err
}

func (h history) NumberAt(ctx context.Context, tenant string, index uint64) (uint64, error) {
	return h.archive.NumberAt(ctx, tenant, index)
}

func eventsJSON(events []*archive.Event) []wire.Event {
	out := make([]wire.Event, len(events))
	for i, ev := range events {
		out[i] = wire.Event{
			Seq: ev.Seq, TenantSeq: ev.TenantSeq, Index: ev.Index, At: ev.At, Tenant: ev.Tenant,
			Fleet: ev.Fleet, Kind: ev.Kind, By: ev.By, Data: ev.Data,
		}
	}
	return out
}
