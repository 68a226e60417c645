// Package apitest has what tests of clients put behind a real API: a cluster of one
// node without a network, and an archive of a few rows.
package apitest

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Cluster is a cluster of one: the real state machine, no network.
type Cluster struct {
	mu    sync.Mutex
	state *fsm.State
	// staged is the backup that was put here last.
	staged *fsm.State
}

// NewCluster returns a cluster "c1" in epoch "e1".
func NewCluster() (*Cluster, error) {
	c := &Cluster{state: fsm.New()}
	r, err := c.Propose(context.Background(), &fsmpb.Command{Op: &fsmpb.Command_InitCluster{InitCluster: &fsmpb.InitCluster{
		Identity: &fsmpb.Identity{ClusterId: "c1", Epoch: "e1"}, FeatureLevel: fsm.SupportedLevel,
	}}})
	if err == nil {
		err = fsm.ResultError(r)
	}
	return c, err
}

// State returns the newest state.
func (c *Cluster) State() *fsm.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Propose applies a command.
func (c *Cluster) Propose(_ context.Context, command *fsmpb.Command) (*fsmpb.Result, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next, results, _ := c.state.ApplyWith(c.state.Index()+1, &fsmpb.Entry{
		Stamp: time.Now().UnixNano(), Commands: []*fsmpb.Command{command},
	}, func([]byte) *fsm.State { return c.staged })
	c.state = next
	return results[0], nil
}

// ReadIndex is that of the newest state.
func (c *Cluster) ReadIndex(context.Context) (uint64, error) { return c.State().Index(), nil }

// WaitApplied waits for an index.
func (c *Cluster) WaitApplied(ctx context.Context, index uint64) (*fsm.State, error) {
	for c.State().Index() < index {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return c.State(), nil
}

// Gather has no proxies.
func (*Cluster) Gather(context.Context, *fsmpb.Query) ([]*fsmpb.Answer, map[string]error) {
	return nil, nil
}

// Report names the one node, n1.
func (c *Cluster) Report(context.Context) (*fsmpb.ClusterReport, error) {
	return &fsmpb.ClusterReport{
		ClusterId: "c1", Epoch: "e1", Leader: "n1", Term: 2, Index: c.State().Index(),
		Nodes: []*fsmpb.NodeReport{{Id: "n1", Voter: true, Leader: true, Healthy: true}},
	}, nil
}

// Finalize finds the level raised.
func (c *Cluster) Finalize(context.Context, string) (*fsmpb.Result, error) {
	return &fsmpb.Result{Index: c.State().LevelIndex()}, nil
}

// StageBackup keeps a backup for the next restore.
func (c *Cluster) StageBackup(r io.Reader) ([32]byte, *fsm.State, error) {
	sum, st, err := fsm.ReadBackup(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.staged = st
	return sum, st, err
}

// SpreadBackup has nobody to spread it to.
func (*Cluster) SpreadBackup(context.Context, [32]byte) error { return nil }

// TransferLeadership does nothing.
func (*Cluster) TransferLeadership(context.Context, string) error { return nil }

// SetVoting does nothing.
func (*Cluster) SetVoting(context.Context, string, bool) error { return nil }

// DrainNode does nothing.
func (*Cluster) DrainNode(context.Context, string, bool, time.Duration) error { return nil }

// RemoveNode does nothing.
func (*Cluster) RemoveNode(context.Context, string) error { return nil }

// LeaderID is the one node's.
func (*Cluster) LeaderID() string { return "n1" }

// NodeID is the one node's.
func (*Cluster) NodeID() string { return "n1" }

// Term is the second.
func (*Cluster) Term() uint64 { return 2 }
