package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
	"github.com/org/envoy-control-plane/cluster/transport"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Report returns the cluster as this node sees it, asking every member.
func (n *Node) Report(ctx context.Context) (*fsmpb.ClusterReport, error) {
	id := n.State().Identity()
	report := &fsmpb.ClusterReport{
		ClusterId: id.GetClusterId(), Epoch: id.GetEpoch(), Leader: n.LeaderID(), Index: n.State().Index(),
	}
	rt := n.rt.Load()
	if rt == nil {
		return report, nil
	}
	report.Term = rt.raft.CurrentTerm()
	servers := rt.servers()
	infos := n.probeAll(ctx, rt, servers)
	leader := infos[n.leaderServer()]
	report.Plan, report.Backup, report.Archive = leader.GetPlan(), leader.GetBackup(), leader.GetArchive()
	byNode := map[string]*fsmpb.NodeReport{}
	for _, s := range servers {
		r := nodeReport(s, infos[string(s.ID)], n.leaderServer())
		// Of several incarnations the one that answers is shown.
		if old := byNode[r.Id]; old == nil || (r.Healthy && !old.Healthy) || (r.Build != "" && old.Build == "") {
			byNode[r.Id] = r
		}
	}
	for _, r := range byNode {
		report.Nodes = append(report.Nodes, r)
	}
	slices.SortFunc(report.Nodes, func(a, b *fsmpb.NodeReport) int { return strings.Compare(a.Id, b.Id) })
	return report, nil
}

func nodeReport(s raft.Server, info *clusterpb.NodeInfo, leader string) *fsmpb.NodeReport {
	_, address := transport.SplitAddress(s.Address)
	r := &fsmpb.NodeReport{
		Id: nodeOf(string(s.ID)), Address: address, Voter: s.Suffrage == raft.Voter, Leader: string(s.ID) == leader,
	}
	if info == nil {
		r.Reason = "it does not answer"
		return r
	}
	r.Reachable = true
	r.Address, r.Applied, r.Streams, r.Build, r.Zone = info.Address, info.Index, info.Streams, info.Build, info.Zone
	r.ApiAddress, r.XdsAddress, r.Reason = info.ApiAddress, info.XdsAddress, info.Reason
	r.Stale, r.Draining, r.SupportedLevel = info.Stale, info.Draining, levelOf(info)
	if !info.Ready && r.Reason == "" {
		r.Reason = "catching up"
	}
	r.Healthy = r.Reason == ""
	return r
}

// Gather asks all nodes, this one included, at the same time. failed holds, by
// node id, those that did not answer.
func (n *Node) Gather(ctx context.Context, q *fsmpb.Query) (answers []*fsmpb.Answer, failed map[string]error) {
	failed = map[string]error{}
	ids := []string{n.ident.ServerID()}
	rt := n.rt.Load()
	if rt != nil {
		for _, s := range rt.servers() {
			if string(s.ID) != ids[0] {
				ids = append(ids, string(s.ID))
			}
		}
	}
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	for _, id := range ids {
		wg.Go(func() {
			a, err := n.ask(ctx, rt, id, q)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed[nodeOf(id)] = err
				return
			}
			a.Node = nodeOf(id)
			answers = append(answers, a)
		})
	}
	wg.Wait()
	for _, a := range answers {
		delete(failed, a.Node) // only a past incarnation failed
	}
	slices.SortFunc(answers, func(a, b *fsmpb.Answer) int { return strings.Compare(a.Node, b.Node) })
	return answers, failed
}

func (n *Node) ask(ctx context.Context, rt *runtime, serverID string, q *fsmpb.Query) (*fsmpb.Answer, error) {
	if serverID == n.ident.ServerID() {
		return n.answer(ctx, q)
	}
	client, err := rt.peers.to(serverID)
	if err != nil {
		return nil, err
	}
	reply, err := client.Query(ctx, &clusterpb.QueryRequest{Query: q})
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", nodeOf(serverID), err)
	}
	if err := errorOf(reply.Outcome); err != nil {
		return nil, err
	}
	if reply.Answer == nil {
		return nil, errors.New("an empty answer")
	}
	return reply.Answer, nil
}

// answer answers a query on this node, once it has applied what the query
// wants to see.
func (n *Node) answer(ctx context.Context, q *fsmpb.Query) (*fsmpb.Answer, error) {
	if n.deps.Answerer == nil {
		return nil, fsm.Refusal(fsm.CodeUnavailable, "this node answers no queries")
	}
	if at := q.GetFleet().GetMinIndex(); at > 0 {
		if _, err := n.machine.wait(ctx, at); err != nil {
			return nil, err
		}
	}
	a, err := n.deps.Answerer(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("answer query: %w", err)
	}
	if a == nil {
		return nil, errors.New("no answer")
	}
	return a, nil
}
