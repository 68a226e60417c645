package api

import (
	"time"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func getCluster(s *Server, c *call, st *fsm.State) (any, error) {
	r, err := s.deps.Cluster.Report(c.ctx)
	if err != nil {
		return nil, err
	}
	out := wire.Cluster{
		ID: r.GetClusterId(), Epoch: r.GetEpoch(), Leader: r.GetLeader(), Term: r.GetTerm(),
		Index: r.GetIndex(), FeatureLevel: st.FeatureLevel(), Nodes: make([]wire.Node, len(r.GetNodes())), Plan: r.GetPlan(),
	}
	for i, n := range r.GetNodes() {
		out.Nodes[i] = nodeJSON(n)
	}
	out.Archive = wire.ArchiveStatus{LastSeq: st.Seq(), ArchivedSeq: st.ArchivedSeq(), OutboxBytes: st.OutboxBytes()}
	out.Archive.State, out.Archive.Reason = s.archiveState(r.GetArchive())
	if now := st.ReadOnly(); now != nil {
		out.ReadOnly = new(readOnlyJSON(now))
	}
	if b := r.GetBackup(); b != nil {
		out.Backup = backupJSON(b)
	}
	return out, nil
}

func backupJSON(b *fsmpb.BackupReport) *wire.BackupStatus {
	out := &wire.BackupStatus{State: backupStates[b.GetState()], Target: b.GetTarget(), Reason: b.GetReason()}
	if b.GetName() != "" {
		out.Last = &wire.StoredBackup{
			Name: b.GetName(), At: time.Unix(0, b.GetAt()).UTC(), Index: b.GetIndex(), Bytes: b.GetBytes(),
		}
	}
	return out
}

var backupStates = map[fsmpb.BackupReport_State]string{
	fsmpb.BackupReport_OK: wire.BackupOK, fsmpb.BackupReport_FAILING: wire.BackupFailing, fsmpb.BackupReport_OVERDUE: wire.BackupOverdue,
}

func nodeJSON(n *fsmpb.NodeReport) wire.Node {
	role := wire.RoleNonvoter
	if n.GetVoter() {
		role = wire.RoleVoter
	}
	return wire.Node{
		ID: n.GetId(), Address: n.GetAddress(), Role: role, Leader: n.GetLeader(), Healthy: n.GetHealthy(),
		Applied: n.GetApplied(), Streams: n.GetStreams(), Build: n.GetBuild(), Zone: n.GetZone(),
		APIAddress: n.GetApiAddress(), XDSAddress: n.GetXdsAddress(), Reason: n.GetReason(),
		Stale: n.GetStale(), Draining: n.GetDraining(), SupportedLevel: n.GetSupportedLevel(),
	}
}

// member refuses a node that the cluster does not have.
func (s *Server) member(c *call, node string) error {
	r, err := s.deps.Cluster.Report(c.ctx)
	if err != nil {
		return err
	}
	for _, n := range r.GetNodes() {
		if n.GetId() == node {
			return nil
		}
	}
	return refuse(wire.CodeNodeNotFound, "the cluster has no node %q", node)
}

func (s *Server) transferLeader(c *call) (*answer, error) {
	raw, err := c.body()
	if err != nil {
		return nil, err
	}
	to, err := decodeLeader(raw)
	if err != nil {
		return nil, err
	}
	if to.Node != "" {
		if err := s.member(c, to.Node); err != nil {
			return nil, err
		}
	}
	if err := s.deps.Cluster.TransferLeadership(c.ctx, to.Node); err != nil {
		return nil, s.unheard(c, err)
	}
	return &answer{body: wire.LeaderTransferred{Leader: s.deps.Cluster.LeaderID()}}, nil
}

func (s *Server) removeNode(c *call) (*answer, error) {
	if err := s.member(c, c.param("node")); err != nil {
		return nil, err
	}
	if err := s.deps.Cluster.RemoveNode(c.ctx, c.param("node")); err != nil {
		return nil, s.unheard(c, err)
	}
	return &answer{body: wire.NodeRemoved{Node: c.param("node")}}, nil
}

// maxDrain is the longest time that a drain may be spread over.
const maxDrain = time.Hour

func (s *Server) drainNode(c *call) (*answer, error) {
	within, err := c.duration("within", maxDrain)
	if err != nil {
		return nil, err
	}
	return s.setDraining(c, true, within)
}

func (s *Server) undrainNode(c *call) (*answer, error) { return s.setDraining(c, false, 0) }

func (s *Server) setDraining(c *call, on bool, within time.Duration) (*answer, error) {
	if err := s.member(c, c.param("node")); err != nil {
		return nil, err
	}
	if err := s.deps.Cluster.DrainNode(c.ctx, c.param("node"), on, within); err != nil {
		return nil, s.unheard(c, err)
	}
	return &answer{body: wire.NodeDraining{Node: c.param("node"), Draining: on}}, nil
}

func (s *Server) demoteNode(c *call) (*answer, error) { return s.setVoting(c, false) }

func (s *Server) undemoteNode(c *call) (*answer, error) { return s.setVoting(c, true) }

func (s *Server) setVoting(c *call, willing bool) (*answer, error) {
	if err := s.member(c, c.param("node")); err != nil {
		return nil, err
	}
	if err := s.deps.Cluster.SetVoting(c.ctx, c.param("node"), willing); err != nil {
		return nil, s.unheard(c, err)
	}
	return &answer{body: wire.NodeVoting{Node: c.param("node"), Willing: willing}}, nil
}
