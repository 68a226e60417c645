package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// reaper keeps, on the leader, the record of proxies: it ends the streams of
// nodes that are gone (a node that died with its streams cannot say so itself;
// the proxies have long connected elsewhere) and forgets proxies that stay away.
type reaper struct {
	log     *slog.Logger
	cluster interface {
		State() *fsm.State
		IsLeader() bool
		Report(ctx context.Context) (*fsmpb.ClusterReport, error)
		Propose(ctx context.Context, c *fsmpb.Command) (*fsmpb.Result, error)
	}
	// every is the time between looks; a node that did not answer for grace
	// is taken for gone. A proxy that has been away for retention is forgotten;
	// 0: never.
	every, grace, retention time.Duration
}

// Run looks until the context ends.
func (r *reaper) Run(ctx context.Context) error {
	since := map[string]time.Time{}
	tick := time.NewTicker(r.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if !r.cluster.IsLeader() {
				clear(since)
				continue
			}
			r.look(ctx, now, since)
			r.forget(ctx, now)
		}
	}
}

// look drops the streams of nodes that did not answer for the grace; since
// remembers from when on.
func (r *reaper) look(ctx context.Context, now time.Time, since map[string]time.Time) {
	report, err := r.cluster.Report(ctx)
	if err != nil {
		r.log.Debug("no report of the nodes", "error", err)
		return
	}
	answers := map[string]bool{}
	for _, n := range report.Nodes {
		answers[n.Id] = n.Reachable
	}
	for node, start := range streamNodes(r.cluster.State()) {
		if answers[node] {
			delete(since, node)
			continue
		}
		if first, ok := since[node]; !ok {
			since[node] = now
		} else if now.Sub(first) >= r.grace {
			r.drop(ctx, node, start)
			delete(since, node)
		}
	}
}

// forgetAtOnce bounds what one log entry takes away.
const forgetAtOnce = 1000

// forget deletes the proxies that have been away for the retention.
func (r *reaper) forget(ctx context.Context, now time.Time) {
	before := now.Add(-r.retention).UnixNano()
	if r.retention <= 0 || !r.cluster.State().Forgettable(before) {
		return
	}
	_, err := r.cluster.Propose(ctx, &fsmpb.Command{By: "cluster", Op: &fsmpb.Command_ForgetProxies{
		ForgetProxies: &fsmpb.ForgetProxies{ChangedBefore: before, Limit: forgetAtOnce},
	}})
	if err != nil {
		r.log.Warn("proxies that are long gone stay for now", "error", err)
	}
}

func (r *reaper) drop(ctx context.Context, node string, start int64) {
	_, err := r.cluster.Propose(ctx, &fsmpb.Command{By: "cluster", Op: &fsmpb.Command_DropNode{
		DropNode: &fsmpb.DropNode{Node: node, ThroughStart: start},
	}})
	if err != nil {
		r.log.Warn("the streams of a lost node stay for now", "lost", node, "error", err)
		return
	}
	r.log.Warn("a node is lost; its streams have ended", "lost", node)
}

// streamNodes returns the nodes that serve streams by the state's record,
// each with its newest start.
func streamNodes(st *fsm.State) map[string]int64 {
	nodes := map[string]int64{}
	for p := range st.AllProxies() {
		for _, s := range p.Streams {
			nodes[s.Node] = max(nodes[s.Node], s.NodeStart)
		}
	}
	return nodes
}
