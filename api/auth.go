package api

import (
	"net/http"

	"github.com/org/envoy-control-plane/api/wire"
)

// Role is what a subject may do, from the least.
type Role int

// Roles of a token's role claim.
const (
	RoleNone Role = iota
	RoleViewer
	RoleOperator
	RoleAdmin
)

// anyTenant as a tenant claim is not bound to one.
const anyTenant = "*"

// Subject is an authenticated caller.
type Subject struct {
	// Name stands as "by" on what the subject changes.
	Name string
	// Tenant is the only one that the subject sees, "*" for all.
	Tenant string
	Role   Role
}

// Sees reports whether a tenant is the subject's to see.
func (s Subject) Sees(tenant string) bool {
	return s.Tenant == anyTenant || s.Tenant == tenant
}

// Authenticator tells who sends a request. Its error says why nobody is
// believed to; the text reaches the client.
type Authenticator interface {
	Authenticate(r *http.Request) (Subject, error)
}

// anonymous is the authenticator of a server without authentication.
type anonymous struct{}

func (anonymous) Authenticate(*http.Request) (Subject, error) {
	return Subject{Name: "anonymous", Tenant: anyTenant, Role: RoleAdmin}, nil
}

// admit authenticates the caller and decides by the route's permission. It is
// the only place that does.
func (s *Server) admit(c *call) (Subject, error) {
	if c.route.Permission == PermNone {
		return Subject{}, nil
	}
	subject, err := s.auth.Authenticate(c.r)
	if err != nil {
		return Subject{}, refuse(wire.CodeUnauthenticated, "%v", err)
	}
	if need := c.route.Permission.role(); subject.Role < need {
		return subject, refuse(wire.CodeForbidden, "%s needs the role %s", c.route.Operation, need)
	}
	tenant, scoped := c.params["tenant"]
	if scoped && !subject.Sees(tenant) {
		return subject, refuse(wire.CodeForbidden, "the token is not for tenant %q", tenant)
	}
	if c.route.Permission >= PermTenants && subject.Tenant != anyTenant {
		return subject, refuse(wire.CodeForbidden, "%s needs a token for all tenants", c.route.Operation)
	}
	return subject, nil
}

// role returns the least role that a permission needs.
func (p Permission) role() Role {
	switch p {
	case PermNone:
		return RoleNone
	case PermView:
		return RoleViewer
	case PermOperate:
		return RoleOperator
	default:
		return RoleAdmin
	}
}

// String returns the role as a token claims it.
func (r Role) String() string {
	switch r {
	case RoleViewer:
		return "viewer"
	case RoleOperator:
		return "operator"
	case RoleAdmin:
		return "admin"
	default:
		return "none"
	}
}
