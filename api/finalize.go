package api

import (
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func (s *Server) finalizeCluster(c *call) (*answer, error) {
	r, err := s.deps.Cluster.Finalize(c.ctx, c.subject.Name)
	if err == nil {
		err = fsm.ResultError(r)
	}
	if err != nil {
		return nil, s.unheard(c, err)
	}
	c.index = r.GetIndex()
	return &answer{body: wire.Finalized{FeatureLevel: s.deps.Cluster.State().FeatureLevel(), Index: r.GetIndex()}}, nil
}

// needLevel refuses a command that the cluster's feature level does not know:
// Apply would have to answer as the older binary does, which cannot say why.
func (s *Server) needLevel(c *call, command *fsmpb.Command) error {
	need := fsm.RequiredLevel(command)
	if s.deps.Cluster.State().FeatureLevel() >= need {
		return nil
	}
	st, err := s.confirmed(c.ctx) // this node may lag
	if err != nil {
		return err
	}
	if st.FeatureLevel() >= need {
		return nil
	}
	return refuse(wire.CodeNotFinalized,
		"this needs feature level %d, the cluster is at %d: finalise the upgrade (POST %s/finalize, ecpctl cluster finalize)",
		need, st.FeatureLevel(), clusterPath)
}
