package fsm

import (
	"fmt"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// maxWarnings bounds an answer.
const maxWarnings = 100

// referenceTypes says which type of the fleet answers for a kind of name.
// Endpoints and secrets belong to the tenant instead.
var referenceTypes = map[fsmpb.Reference_Kind]string{
	fsmpb.Reference_CLUSTER:      TypeCluster,
	fsmpb.Reference_ROUTE:        TypeRoute,
	fsmpb.Reference_SCOPED_ROUTE: TypeScopedRoute,
	fsmpb.Reference_EXTENSION:    TypeExtension,
	fsmpb.Reference_RUNTIME:      TypeRuntime,
	fsmpb.Reference_VIRTUAL_HOST: TypeVirtualHost,
}

// missing warns of names that resources of the revision need and that the
// fleet lacks: those of the upserted ones, and those that lost their answer
// against the base.
func (r *Revision) missing(base *Revision, upsert []*fsmpb.Resource) []*fsmpb.FieldError {
	var out []*fsmpb.FieldError
	for i, res := range upsert {
		for _, ref := range res.References {
			if url, ok := referenceTypes[ref.Kind]; ok && !r.has(url, ref.Name) {
				out = append(out, &fsmpb.FieldError{
					Path:   fmt.Sprintf("upsert[%d].%s", i, ref.Path),
					Detail: fmt.Sprintf("%s %q is not in the fleet", ShortType(url), ref.Name),
				})
			}
		}
	}
	if r.Info != nil && removes(r.Info.Changed) {
		out = append(out, r.orphans(base)...)
	}
	return out[:min(len(out), maxWarnings)]
}

func (r *Revision) has(url, name string) bool {
	_, ok := r.Resource(url, name)
	return ok
}

func removes(changed []*fsmpb.Change) bool {
	for _, c := range changed {
		if c.Op == fsmpb.Change_REMOVED {
			return true
		}
	}
	return false
}

// orphans warns of resources kept from the base whose references the base
// answered and the revision does not.
func (r *Revision) orphans(base *Revision) []*fsmpb.FieldError {
	var out []*fsmpb.FieldError
	for _, url := range r.Types() {
		for res := range r.Resources(url) {
			if old, ok := base.Resource(url, res.Name); !ok || old != res {
				continue
			}
			for _, ref := range res.References {
				needs, ok := referenceTypes[ref.Kind]
				if ok && base.has(needs, ref.Name) && !r.has(needs, ref.Name) {
					out = append(out, &fsmpb.FieldError{
						Path: "delete",
						Detail: fmt.Sprintf("%s %q still needs %s %q (%s)",
							ShortType(url), res.Name, ShortType(needs), ref.Name, ref.Path),
					})
				}
			}
		}
	}
	return out
}

// missingLive warns of EDS clusters whose service the tenant lacks, and of
// secrets that it lacks.
func (t *transition) missingLive(c *fsmpb.ChangeFleet) []*fsmpb.FieldError {
	var out []*fsmpb.FieldError
	for i, res := range c.Upsert {
		for _, ref := range res.References {
			lack := t.lack(c.Tenant, ref)
			if lack == "" || len(out) == maxWarnings {
				continue
			}
			out = append(out, &fsmpb.FieldError{Path: fmt.Sprintf("upsert[%d].%s", i, ref.Path), Detail: lack})
		}
	}
	return out
}

// lack says what a tenant lacks for a reference to live data, "" for nothing.
func (t *transition) lack(tenant string, ref *fsmpb.Reference) string {
	switch ref.Kind {
	case fsmpb.Reference_ENDPOINTS:
		if _, ok := t.Endpoints(tenant, ref.Name); !ok {
			return fmt.Sprintf("service %q has no endpoints in tenant %q", ref.Name, tenant)
		}
	case fsmpb.Reference_SECRET:
		if _, ok := t.Secret(tenant, ref.Name); !ok {
			return fmt.Sprintf("tenant %q has no secret %q", tenant, ref.Name)
		}
	}
	return ""
}

// conflicts refuses upserted listeners that bind an address which another
// listener of the revision binds.
func (r *Revision) conflicts(upsert []*fsmpb.Resource) *Error {
	var owners map[string][]string
	var errs []*fsmpb.FieldError
	for i, res := range upsert {
		if len(res.Binds) == 0 {
			continue
		}
		if owners == nil {
			owners = r.binds()
		}
		for _, bind := range res.Binds {
			for _, owner := range owners[bind] {
				if owner != res.Name {
					errs = append(errs, &fsmpb.FieldError{
						Path:   fmt.Sprintf("upsert[%d].address", i),
						Detail: fmt.Sprintf("listener %q binds %s too", owner, bind),
					})
				}
			}
		}
	}
	if errs == nil {
		return nil
	}
	return &Error{Code: CodeAddressConflict, Detail: "two listeners bind one address", Errors: errs}
}

// binds returns the listeners that bind each address.
func (r *Revision) binds() map[string][]string {
	owners := map[string][]string{}
	for l := range r.Resources(TypeListener) {
		for _, bind := range l.Binds {
			owners[bind] = append(owners[bind], l.Name)
		}
	}
	return owners
}
