package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
	"github.com/org/envoy-control-plane/fsm"
)

// Node is one member of the cluster.
type Node struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	metrics *metrics
	descs   descs
	start   time.Time

	ident   *identity
	machine *machine
	lead    *leadership
	// rt is what Run has started; nil before and after.
	rt atomic.Pointer[runtime]

	// ready is a latch: the node has applied all that the cluster had
	// acknowledged when it started.
	ready atomic.Bool
	// stale: the state is the last one on disk that is known to be committed.
	stale atomic.Bool
	// outdated says that the cluster was recovered without this node's data.
	outdated atomic.Pointer[string]
	// strangers is when a node of before a recovery was last spoken of,
	// nanoseconds since the Unix epoch.
	strangers atomic.Int64
	// failed holds why the node has left Raft for good.
	failed atomic.Pointer[string]
	// demoted: an operator has told the node to give its vote up.
	demoted atomic.Bool
	// followed is the server that this node followed last.
	followed atomic.Pointer[raft.ServerID]
	// crowded: a majority of the voters' disks has no room, by the leader's last
	// look.
	crowded atomic.Bool
	// skew is the leader's clock less the median of the others', nanoseconds.
	skew atomic.Int64
	// foundedAt is the feature level of a new cluster that the node has helped to
	// found; 0: it has not.
	foundedAt atomic.Uint32
	// due is the leader's last plan.
	due atomic.Pointer[step]
	// waitsFor says what a first start waits for.
	waitsFor atomic.Pointer[string]

	// backups are on this disk; given is the checksum of the one that the node
	// was started with, for a new cluster.
	backups *backups
	given   string

	// membership admits one change of the configuration at a time.
	membership turn

	// fatal takes the first error that ends Run.
	fatal   chan error
	leaving chan struct{}
	leave   sync.Once
	ran     atomic.Bool
	stopped chan struct{}
}

// New makes a node and, in a new data directory, its identity.
func New(cfg Config, deps Deps) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	deps.setDefaults()
	ident, err := loadIdentity(cfg.DataDir, cfg.NodeID)
	if err != nil {
		return nil, err
	}
	m := newMetrics()
	n := &Node{
		cfg: cfg, deps: deps, log: deps.Log, metrics: m, descs: newDescs(), start: time.Now(), ident: ident, lead: newLeadership(),
		backups:    newBackups(cfg.DataDir),
		membership: newTurn(), fatal: make(chan error, 1), leaving: make(chan struct{}), stopped: make(chan struct{}),
	}
	if err := n.takeSeed(); err != nil {
		return nil, err
	}
	n.machine = newMachine(deps.Log, deps.Observers, m, deps.supports, n.fail)
	if deps.Metrics != nil {
		if err := deps.Metrics.Register(collector{n}); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return n, nil
}

// NodeID returns the id that the node was configured with.
func (n *Node) NodeID() string { return n.cfg.NodeID }

// State returns the newest state that was applied on this node.
func (n *Node) State() *fsm.State { return n.machine.state.Load() }

// WaitApplied waits until this node has applied an index.
func (n *Node) WaitApplied(ctx context.Context, index uint64) (*fsm.State, error) {
	return n.machine.wait(ctx, index)
}

// IsLeader reports whether the node leads, as far as it knows.
func (n *Node) IsLeader() bool {
	rt := n.rt.Load()
	return rt != nil && rt.raft.State() == raft.Leader
}

// Term returns the Raft term that the node is in.
func (n *Node) Term() uint64 {
	rt := n.rt.Load()
	if rt == nil {
		return 0
	}
	return rt.raft.CurrentTerm()
}

// LeaderID returns the leader's node id, "" while none is known.
func (n *Node) LeaderID() string { return nodeOf(n.leaderServer()) }

// leaderServer returns the leader's server id, "" while none is known.
func (n *Node) leaderServer() string {
	rt := n.rt.Load()
	if rt == nil {
		return ""
	}
	_, id := rt.raft.LeaderWithID()
	return string(id)
}

// fail ends Run with an error; the first one counts.
func (n *Node) fail(err error) {
	select {
	case n.fatal <- err:
	default:
	}
}

// Admit implements transport.Gatekeeper.
func (n *Node) Admit(h *clusterpb.Hello) string {
	id := n.ident.get()
	self := n.ident.ServerID()
	stranger := n.stranger(h.Source, h.ClusterId, h.Recoveries)
	switch {
	case h.Target != "" && h.Target != self:
		return fmt.Sprintf("this is %s, not %s", self, h.Target)
	case h.Kind == clusterpb.Hello_RPC && h.Target == "":
		return "" // a probe tells of itself
	case h.Kind != clusterpb.Hello_RPC && h.Kind != clusterpb.Hello_RAFT:
		return "unknown kind of connection"
	case h.Kind == clusterpb.Hello_RAFT && (h.Target == "" || h.ClusterId == ""):
		return "a Raft connection needs a target and a cluster"
	case stranger != "":
		return stranger
	case h.Kind == clusterpb.Hello_RAFT && id.ClusterId == "":
		return n.adopt(h.ClusterId)
	}
	return ""
}

// adopt makes the cluster of a promise the node's own, when its Raft calls.
func (n *Node) adopt(clusterID string) string {
	if n.ident.get().GetPromise().GetClusterId() != clusterID {
		return "this node belongs to no cluster yet"
	}
	err := n.ident.update(func(id *clusterpb.Identity) error {
		if id.GetPromise().GetClusterId() != clusterID || (id.ClusterId != "" && id.ClusterId != clusterID) {
			return errors.New("it has changed meanwhile")
		}
		id.ClusterId, id.Seed = clusterID, id.GetPromise().GetSeed()
		return nil
	})
	if err != nil {
		return "cannot join the cluster: " + err.Error()
	}
	n.log.Info("part of a new cluster", "cluster_id", clusterID)
	return ""
}

// Welcome implements transport.Gatekeeper.
func (n *Node) Welcome() *clusterpb.Welcome {
	id := n.ident.get()
	return &clusterpb.Welcome{ServerId: n.ident.ServerID(), ClusterId: id.ClusterId, Recoveries: id.Recoveries}
}

// meta is what gossip tells of the node.
func (n *Node) meta() *clusterpb.Meta {
	id := n.ident.get()
	return &clusterpb.Meta{
		ServerId: n.ident.ServerID(), ClusterId: id.ClusterId, Recovery: newest(id.Recoveries),
		Host: n.cfg.Advertise, RaftPort: uint32(n.cfg.RaftPort),
		Zone: n.cfg.Zone, Voter: n.willing(), Start: n.start.UnixNano(),
		Streams: uint32(n.deps.Streams()), Draining: n.deps.Draining(), Ready: n.Ready(),
	}
}
