package fsm

import (
	"bytes"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func (t *transition) putEndpoints(c *fsmpb.PutEndpoints) (*fsmpb.Result, *Error) {
	if err := t.needTenant(c.GetTenant()); err != nil {
		return nil, err
	}
	if c.Service == "" || len(c.Hash) == 0 {
		return nil, Refusal(CodeInvalid, "endpoints need a service and a hash")
	}
	old, exists := t.Endpoints(c.Tenant, c.Service)
	if exists && bytes.Equal(old.Hash, c.Hash) {
		return unchanged(), nil
	}
	if err := t.writable(); err != nil {
		return nil, err
	}
	row := &fsmpb.Endpoints{
		Tenant: c.Tenant, Service: c.Service, Body: c.Body, Hash: c.Hash,
		Version: Version(t.index, c.Hash), Index: t.index, At: t.stamp, By: t.by,
	}
	t.endpoints, _, _ = t.endpoints.Insert(key(c.Tenant, c.Service), row)
	t.emit(&fsmpb.Event{Tenant: c.Tenant, Endpoints: c.Body, Data: &fsmpb.Event_EndpointsPut{
		EndpointsPut: &fsmpb.EndpointsPut{Service: c.Service, Version: row.Version},
	}})
	return &fsmpb.Result{Created: !exists}, nil
}

func (t *transition) deleteEndpoints(c *fsmpb.DeleteEndpoints) (*fsmpb.Result, *Error) {
	if err := t.needTenant(c.GetTenant()); err != nil {
		return nil, err
	}
	if _, ok := t.Endpoints(c.Tenant, c.Service); !ok {
		return nil, Refusal(CodeEndpointsNotFound, "tenant %q has no endpoints of %q", c.Tenant, c.Service)
	}
	if err := t.writable(); err != nil {
		return nil, err
	}
	t.endpoints, _, _ = t.endpoints.Delete(key(c.Tenant, c.Service))
	t.emit(&fsmpb.Event{Tenant: c.Tenant, Data: &fsmpb.Event_EndpointsDeleted{
		EndpointsDeleted: &fsmpb.EndpointsDeleted{Service: c.Service},
	}})
	return &fsmpb.Result{}, nil
}
