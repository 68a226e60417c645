package fsm

import (
	"maps"

	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// needTenant refuses an unknown tenant.
func (t *transition) needTenant(name string) *Error {
	if _, ok := t.Tenant(name); !ok {
		return Refusal(CodeTenantNotFound, "there is no tenant %q", name)
	}
	return nil
}

func (t *transition) putTenant(c *fsmpb.PutTenant) (*fsmpb.Result, *Error) {
	if c.GetName() == "" {
		return nil, Refusal(CodeInvalid, "a tenant needs a name")
	}
	old, exists := t.Tenant(c.Name)
	if exists && maps.Equal(old.Labels, c.Labels) {
		return unchanged(), nil
	}
	if err := t.writable(); err != nil {
		return nil, err
	}
	row := &fsmpb.Tenant{Name: c.Name, Labels: c.Labels, CreatedIndex: t.index, Index: t.index}
	if exists {
		row.CreatedIndex = old.CreatedIndex
	}
	t.tenants, _, _ = t.tenants.Insert(key(c.Name), row)
	t.emit(&fsmpb.Event{Tenant: c.Name, Data: &fsmpb.Event_TenantPut{
		TenantPut: &fsmpb.TenantPut{Labels: c.Labels, Created: !exists},
	}})
	return &fsmpb.Result{Created: !exists}, nil
}

func (t *transition) deleteTenant(c *fsmpb.DeleteTenant) (*fsmpb.Result, *Error) {
	if err := t.needTenant(c.GetName()); err != nil {
		return nil, err
	}
	if c.Name == DefaultTenant {
		return nil, Refusal(CodeTenantProtected, "the tenant %q is always there", c.Name)
	}
	if what := t.holds(c.Name); what != "" {
		return nil, Refusal(CodeTenantNotEmpty, "tenant %q still has %s", c.Name, what)
	}
	if err := t.writable(); err != nil {
		return nil, err
	}
	t.proxies, _ = t.proxies.DeletePrefix(prefix(c.Name))
	t.tenants, _, _ = t.tenants.Delete(key(c.Name))
	t.emit(&fsmpb.Event{Tenant: c.Name, Data: &fsmpb.Event_TenantDeleted{
		TenantDeleted: &fsmpb.TenantDeleted{},
	}})
	return &fsmpb.Result{}, nil
}

// holds names what keeps a tenant from being deleted, "" for nothing.
// Disconnected proxies are no reason.
func (t *transition) holds(tenant string) string {
	for range t.Fleets(tenant, "") {
		return "fleets"
	}
	for range t.EndpointsOf(tenant, "") {
		return "endpoints"
	}
	for range t.SecretsOf(tenant, "") {
		return "secrets"
	}
	for p := range t.Proxies(tenant, "") {
		if len(p.Streams) > 0 {
			return "connected proxies"
		}
	}
	return ""
}

// fleet returns a fleet or the refusal that it, or its tenant, is unknown.
func (t *transition) fleet(tenant, name string) (*fsmpb.Fleet, *Error) {
	if err := t.needTenant(tenant); err != nil {
		return nil, err
	}
	row, ok := t.Fleet(tenant, name)
	if !ok {
		return nil, Refusal(CodeFleetNotFound, "tenant %q has no fleet %q", tenant, name)
	}
	return row, nil
}

func (t *transition) putFleet(c *fsmpb.PutFleet) (*fsmpb.Result, *Error) {
	if err := t.needTenant(c.GetTenant()); err != nil {
		return nil, err
	}
	if c.Name == "" {
		return nil, Refusal(CodeInvalid, "a fleet needs a name")
	}
	old, exists := t.Fleet(c.Tenant, c.Name)
	row := &fsmpb.Fleet{
		Tenant: c.Tenant, Name: c.Name, Labels: c.Labels, Settings: c.Settings,
		Revision: old.GetRevision(), CreatedIndex: t.index, Index: t.index,
	}
	if exists {
		row.CreatedIndex = old.CreatedIndex
		if maps.Equal(old.Labels, c.Labels) && proto.Equal(old.Settings, c.Settings) {
			return &fsmpb.Result{Unchanged: true, Revision: old.Revision}, nil
		}
	}
	if err := t.writable(); err != nil {
		return nil, err
	}
	t.fleets, _, _ = t.fleets.Insert(key(c.Tenant, c.Name), row)
	t.forgetRevisions(row)
	t.emit(&fsmpb.Event{Tenant: c.Tenant, Fleet: c.Name, Data: &fsmpb.Event_FleetPut{
		FleetPut: &fsmpb.FleetPut{Labels: c.Labels, Settings: c.Settings, Created: !exists},
	}})
	return &fsmpb.Result{Created: !exists, Revision: row.Revision}, nil
}

func (t *transition) deleteFleet(c *fsmpb.DeleteFleet) (*fsmpb.Result, *Error) {
	row, err := t.fleet(c.GetTenant(), c.GetName())
	if err != nil {
		return nil, err
	}
	if n := t.connected(c.Tenant, c.Name); n > 0 && !c.Force {
		return nil, Refusal(CodeFleetHasProxies,
			"fleet %q has %d connected proxies; they would keep their configuration", c.Name, n)
	}
	if err := t.writable(); err != nil {
		return nil, err
	}
	t.fleets, _, _ = t.fleets.Delete(key(c.Tenant, c.Name))
	t.revisions, _ = t.revisions.DeletePrefix(prefix(c.Tenant, c.Name))
	t.emit(&fsmpb.Event{Tenant: c.Tenant, Fleet: c.Name, Data: &fsmpb.Event_FleetDeleted{
		FleetDeleted: &fsmpb.FleetDeleted{Revision: row.Revision},
	}})
	return &fsmpb.Result{Revision: row.Revision}, nil
}

// connected counts a fleet's proxies that have a stream.
func (t *transition) connected(tenant, fleet string) int {
	n := 0
	for p := range t.Proxies(tenant, "") {
		if p.Fleet == fleet && len(p.Streams) > 0 {
			n++
		}
	}
	return n
}
