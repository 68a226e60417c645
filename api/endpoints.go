package api

import (
	"fmt"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func (s *Server) endpointsJSON(e *fsmpb.Endpoints) (wire.Endpoints, error) {
	message, err := s.deps.Resources.JSON(fsm.TypeEndpoints, e.GetBody())
	if err != nil {
		return wire.Endpoints{}, fmt.Errorf("show endpoints of %q: %w", e.GetService(), err)
	}
	return wire.Endpoints{
		Service: e.GetService(), Tenant: e.GetTenant(), Version: e.GetVersion(), Index: e.GetIndex(),
		At: instantJSON(e.GetAt()), By: e.GetBy(), Resource: message,
	}, nil
}

func listEndpoints(s *Server, c *call, st *fsm.State) (any, error) {
	if _, err := tenantOf(c, st); err != nil {
		return nil, err
	}
	p, err := c.page("endpoints")
	if err != nil {
		return nil, err
	}
	rows, next := take(p, st.EndpointsOf(c.param("tenant"), p.after), (*fsmpb.Endpoints).GetService, nil)
	list := wire.List[wire.Endpoints]{Items: make([]wire.Endpoints, len(rows)), Next: next}
	for i, row := range rows {
		if list.Items[i], err = s.endpointsJSON(row); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func getEndpoints(s *Server, c *call, st *fsm.State) (any, error) {
	if _, err := tenantOf(c, st); err != nil {
		return nil, err
	}
	row, ok := st.Endpoints(c.param("tenant"), c.param("service"))
	if !ok {
		return nil, refuse(wire.CodeEndpointsNotFound, "tenant %q has no endpoints of %q",
			c.param("tenant"), c.param("service"))
	}
	return s.endpointsJSON(row)
}

func (s *Server) putEndpoints(c *call) (*answer, error) {
	raw, err := c.body()
	if err != nil {
		return nil, err
	}
	command := &fsmpb.PutEndpoints{Tenant: c.param("tenant"), Service: c.param("service")}
	if err := s.decodeEndpoints(raw, command); err != nil {
		return nil, err
	}
	r, err := s.propose(c, raw, &fsmpb.Command{Op: &fsmpb.Command_PutEndpoints{PutEndpoints: command}})
	if err != nil {
		return nil, err
	}
	return &answer{status: statusOf(r), body: wire.EndpointsWritten{
		Service: command.Service, Tenant: command.Tenant, Index: r.GetIndex(),
		Unchanged: r.GetUnchanged(), Warnings: fieldErrors(r.GetWarnings()),
	}}, nil
}

func (s *Server) decodeEndpoints(raw []byte, to *fsmpb.PutEndpoints) error {
	d := &strict{}
	if raw == nil {
		d.fail(wire.CodeInvalid, "", "a ClusterLoadAssignment is needed")
		return d.err()
	}
	to.Body, to.Hash, d.errs = s.deps.Resources.DecodeEndpoints(to.GetService(), raw)
	return d.err()
}

func (s *Server) deleteEndpoints(c *call) (*answer, error) {
	return s.delete(c, &fsmpb.Command{Op: &fsmpb.Command_DeleteEndpoints{
		DeleteEndpoints: &fsmpb.DeleteEndpoints{Tenant: c.param("tenant"), Service: c.param("service")},
	}})
}
