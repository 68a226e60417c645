package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"

	"github.com/org/envoy-control-plane/cluster/gossip"
	"github.com/org/envoy-control-plane/cluster/store"
	"github.com/org/envoy-control-plane/cluster/transport"
	"github.com/org/envoy-control-plane/fsm"
)

// raftTimeout bounds one message between Raft servers, with a snapshot's
// megabytes on top.
const raftTimeout = 10 * time.Second

// Run runs the node until ctx ends, Leave is called or something fails that
// the node must not survive. Ending ctx stops without a word to the others.
func (n *Node) Run(ctx context.Context) error {
	if n.ran.Swap(true) {
		return errors.New("a node runs once")
	}
	defer close(n.stopped)
	if n.deps.Metrics != nil {
		defer n.deps.Metrics.Unregister(collector{n})
	}
	for {
		err := n.runOnce(ctx)
		if !errors.Is(err, errRestart) {
			return err
		}
		n.log.Warn("starting Raft anew", "reason", err)
	}
}

// errRestart ends one round of Run and begins the next.
var errRestart = errors.New("raft must be started anew")

var (
	errDiverged = fmt.Errorf("%w: a snapshot replaced a log that had diverged", errRestart)
	errStuck    = fmt.Errorf("%w: it takes a leadership transfer of an earlier term for one under way", errRestart)
)

// runOnce runs until something ends it. The state outlives it.
func (n *Node) runOnce(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer background(ctx, func(ctx context.Context) {
		select {
		case <-n.leaving:
			cancel()
		case <-ctx.Done():
		}
	})()
	rt, err := n.begin(ctx)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return rt.mux.Run(context.WithoutCancel(ctx)) })
	group.Go(func() error { return ignoreClosed(rt.grpc.Serve(rt.mux.RPC())) })
	for _, part := range []func(context.Context) error{
		rt.gossip.Run, rt.proposer.run, rt.forwarder.run, rt.reader.run, n.watchLeadership, n.watchContact, n.form, n.keepMembership, n.watchStore, n.becomeReady, n.becomeStale,
		n.meetStrangers, n.finalizeInTime, n.keepLevel, n.watchPlace, n.renewSnapshot,
	} {
		group.Go(func() error { return part(ctx) })
	}
	group.Go(func() error {
		var err error
		select {
		case <-ctx.Done():
		case err = <-n.fatal:
		}
		cancel()
		return errors.Join(err, n.end(rt))
	})
	return group.Wait()
}

// begin starts the parts, in this order:
//  1. the stores, verified, and the machine from the newest snapshot;
//  2. the Raft port, so that others can ask who we are;
//  3. Raft;
//  4. gossip.
func (n *Node) begin(ctx context.Context) (_ *runtime, err error) {
	rt := &runtime{proposer: newProposer(n), forwarder: newForwarder(n), reader: newReader(n)}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.abort(rt))
		}
	}()
	hlog := newRaftLog(n.log)
	rt.stores, err = store.Open(n.cfg.DataDir, store.Options{
		Damaged: n.fail, Log: hlog, Slow: n.deps.slowLog, Reserve: n.deps.reserve, Ahead: n.cfg.LogAhead, Free: n.deps.free, Files: n.deps.around.files,
	})
	if err != nil {
		return nil, err
	}
	if err := n.restore(rt.stores); err != nil {
		return nil, err
	}
	ln, err := n.deps.around.listen(ctx, "tcp", net.JoinHostPort(n.cfg.Bind, strconv.Itoa(n.cfg.RaftPort)))
	if err != nil {
		return nil, fmt.Errorf("raft port: %w", err)
	}
	if n.deps.WrapListener != nil {
		ln = n.deps.WrapListener(ln)
	}
	rt.mux = transport.NewMux(ln, n, n.log)
	dialer := transport.NewDialer(n.deps.Dial, n)
	rt.peers = newPeers(dialer, n.addressOf, n.deps.around.rpc)
	rt.grpc = newServer(n)
	self := transport.Address(n.ident.ServerID(), n.cfg.address())
	rt.streams = transport.NewStreams(rt.mux.Raft(), dialer, self, n.gossipAddress)
	rt.gossip = n.deps.around.gossip(gossip.Config{
		Bind: n.cfg.Bind, Port: n.cfg.GossipPort, Advertise: n.cfg.Advertise, Join: n.cfg.Join,
		Meta: n.meta, Log: n.log, WrapTransport: n.deps.WrapGossip,
	})
	rt.trans = transport.NewRaft(transport.RaftConfig{
		Streams: rt.streams, ID: raft.ServerID(n.ident.ServerID()), Timeout: raftTimeout, Log: hlog,
		Diverged: func() { n.fail(errDiverged) }, Turn: n.turn, Carrier: n.deps.around.carrier(rt.streams),
	})
	if err := n.pruneBackups(rt.stores.Log); err != nil {
		return nil, err
	}
	n.machine.begin(func(sum checksum) *fsm.State { return n.findBackup(ctx, sum) })
	rt.raft, err = raft.NewRaft(n.raftConfig(), n.machine, rt.stores.Log, rt.stores.Stable, rt.stores.Snapshots, rt.trans)
	if why := n.machine.stopped.Load(); why != nil {
		err = *why // Raft tries an older snapshot then
	}
	if err != nil {
		return nil, fmt.Errorf("start raft: %w", err)
	}
	rt.trans.Attach(rt.raft)
	if err := rt.gossip.Start(ctx); err != nil {
		return nil, err
	}
	n.rt.Store(rt)
	if alone(rt.servers(), n.ident.ServerID()) {
		rt.trans.Campaign()
	}
	return rt, nil
}

func (n *Node) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(n.ident.ServerID())
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = n.cfg.Heartbeat, n.cfg.Election, n.cfg.Lease
	c.CommitTimeout = n.cfg.Commit
	c.MaxAppendEntries = 128
	c.SnapshotInterval, c.SnapshotThreshold, c.TrailingLogs = n.cfg.SnapshotInterval, n.cfg.SnapshotThreshold, n.cfg.TrailingLogs
	c.ShutdownOnRemove = false
	c.NoSnapshotRestoreOnStart = true // see restore
	c.RestoreCommittedLogs = true     // Raft then tells the store what is committed, see store.Stores
	c.NoLegacyTelemetry = true
	c.Logger = newRaftLog(n.log)
	return c
}

// restore finishes a recovery that was interrupted, and gives the machine the
// newest snapshot: Raft by itself would go on from an older one without asking
// whether the log makes up for it.
func (n *Node) restore(s *store.Stores) error {
	if err := finishRecovery(s, n.ident); err != nil {
		return err
	}
	st, err := s.Restore()
	if err != nil || st == nil {
		return err
	}
	n.machine.restored(st)
	return nil
}

var _ transport.Gatekeeper = (*Node)(nil)
