package api

import (
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// tenantOf returns the tenant that the path names.
func tenantOf(c *call, st *fsm.State) (*fsmpb.Tenant, error) {
	t, ok := st.Tenant(c.param("tenant"))
	if !ok {
		return nil, refuse(wire.CodeTenantNotFound, "there is no tenant %q", c.param("tenant"))
	}
	return t, nil
}

func tenantJSON(t *fsmpb.Tenant) wire.Tenant {
	return wire.Tenant{Name: t.GetName(), Index: t.GetIndex(), Labels: labelsJSON(t.GetLabels())}
}

// labelsJSON makes an absent map an empty object.
func labelsJSON(labels map[string]string) map[string]string {
	if labels == nil {
		return map[string]string{}
	}
	return labels
}

// listTenants shows the tenants that the caller may see.
func listTenants(_ *Server, c *call, st *fsm.State) (any, error) {
	p, err := c.page("tenants")
	if err != nil {
		return nil, err
	}
	return paged(p, st.Tenants(p.after), (*fsmpb.Tenant).GetName,
		func(t *fsmpb.Tenant) bool { return c.subject.Sees(t.GetName()) }, tenantJSON), nil
}

func getTenant(_ *Server, c *call, st *fsm.State) (any, error) {
	t, err := tenantOf(c, st)
	if err != nil {
		return nil, err
	}
	return tenantJSON(t), nil
}

func (s *Server) putTenant(c *call) (*answer, error) {
	raw, err := c.body()
	if err != nil {
		return nil, err
	}
	command := &fsmpb.PutTenant{Name: c.param("tenant")}
	if err := decodeTenant(raw, command); err != nil {
		return nil, err
	}
	r, err := s.propose(c, raw, &fsmpb.Command{Op: &fsmpb.Command_PutTenant{PutTenant: command}})
	if err != nil {
		return nil, err
	}
	return &answer{status: statusOf(r), body: wire.TenantWritten{
		Name: command.Name, Index: r.GetIndex(), Labels: labelsJSON(command.Labels), Unchanged: r.GetUnchanged(),
	}}, nil
}

func (s *Server) deleteTenant(c *call) (*answer, error) {
	return s.delete(c, &fsmpb.Command{Op: &fsmpb.Command_DeleteTenant{
		DeleteTenant: &fsmpb.DeleteTenant{Name: c.param("tenant")},
	}})
}

// delete proposes a deletion.
func (s *Server) delete(c *call, command *fsmpb.Command) (*answer, error) {
	r, err := s.propose(c, nil, command)
	if err != nil {
		return nil, err
	}
	return &answer{body: wire.Deleted{Index: r.GetIndex()}}, nil
}
