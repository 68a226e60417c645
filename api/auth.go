package api

import (
	"net/http"
	"strings"
	"time"

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
	// Expires is when the subject is believed no longer; zero: never.
	Expires time.Time
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
// the only place that does, but for the event socket, whose tenant is in the query.
func (s *Server) admit(c *call) (Subject, error) {
	if c.route.Permission == PermNone {
		return Subject{}, nil
	}
	if c.route.Kind == KindStream {
		takeProtocolToken(c.r)
	}
	subject, err := s.auth.Authenticate(c.r)
	if err != nil {
		return Subject{}, refuse(wire.CodeUnauthenticated, "%v", err)
	}
	tenant, scoped := c.params["tenant"]
	return subject, subject.may(c.route.Operation, c.route.Permission, tenant, scoped)
}

// may refuses what a permission does not give the subject, in a tenant if it is
// about one.
func (s Subject) may(operation string, p Permission, tenant string, scoped bool) error {
	switch need := p.role(); {
	case s.Role < need:
		return refuse(wire.CodeForbidden, "%s needs the role %s", operation, need)
	case scoped && !s.Sees(tenant):
		return refuse(wire.CodeForbidden, "the token is not for tenant %q", tenant)
	case p >= PermTenants && s.Tenant != anyTenant:
		return refuse(wire.CodeForbidden, "%s needs a token for all tenants", operation)
	}
	return nil
}

// takeProtocolToken makes a bearer token that came as a WebSocket subprotocol,
// for want of a header that browsers could set, one of the Authorization header.
func takeProtocolToken(r *http.Request) {
	if r.Header.Get("Authorization") != "" {
		return
	}
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for offer := range strings.SplitSeq(line, ",") {
			if token, ok := strings.CutPrefix(strings.TrimSpace(offer), wire.BearerProtocol); ok {
				r.Header.Set("Authorization", "Bearer "+token)
			}
		}
	}
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
