package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/org/envoy-control-plane/api"
	"github.com/org/envoy-control-plane/api/wire"
)

const secret = "a secret of the tests, 32 bytes!"

func withSecret(_ *rig, c *api.Config, _ *api.Deps) { c.JWTSecret = []byte(secret) }

// mint makes what a role may carry.
func mint(t *testing.T, subject, tenant, role string, claims ...func(*api.Claims)) string {
	t.Helper()
	c := api.Claims{Tenant: tenant, Role: role, RegisteredClaims: jwt.RegisteredClaims{
		Subject: subject, ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour)),
	}}
	for _, change := range claims {
		change(&c)
	}
	return sign(t, jwt.SigningMethodHS256, c, []byte(secret))
}

func sign(t *testing.T, method jwt.SigningMethod, c api.Claims, key any) string {
	t.Helper()
	signed, err := jwt.NewWithClaims(method, c).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return "Bearer " + signed
}

func TestTokens(t *testing.T) {
	r := newRig(t, withSecret)
	const path = "/api/v1/tenants"
	good := mint(t, "ann", "*", "viewer")
	r.get(path, "Authorization", good).is(200)
	r.get(path, "Authorization", strings.Replace(good, "Bearer", "bearer", 1)).is(200)
	claims := api.Claims{Role: "admin", RegisteredClaims: jwt.RegisteredClaims{
		Subject: "eve", ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour)),
	}}
	for name, header := range map[string]string{
		"none":         "",
		"basic":        "Basic YTpi",
		"empty":        "Bearer ",
		"garbage":      "Bearer a.b.c",
		"tampered":     good[:len(good)-6] + "AAAAAA",
		"other key":    sign(t, jwt.SigningMethodHS256, claims, []byte("another secret of thirty-two byte")),
		"alg none":     sign(t, jwt.SigningMethodNone, claims, jwt.UnsafeAllowNoneSignatureType),
		"alg HS512":    sign(t, jwt.SigningMethodHS512, claims, []byte(secret)),
		"expired":      mint(t, "ann", "*", "viewer", func(c *api.Claims) { c.ExpiresAt = jwt.NewNumericDate(time.Now().Add(-time.Hour)) }),
		"no expiry":    mint(t, "ann", "*", "viewer", func(c *api.Claims) { c.ExpiresAt = nil }),
		"not yet":      mint(t, "ann", "*", "viewer", func(c *api.Claims) { c.NotBefore = jwt.NewNumericDate(time.Now().Add(time.Hour)) }),
		"no role":      mint(t, "ann", "*", ""),
		"other role":   mint(t, "ann", "*", "root"),
		"no subject":   mint(t, "", "*", "viewer"),
		"long subject": mint(t, strings.Repeat("x", 257), "*", "viewer"),
		"no tenant":    mint(t, "ann", "", "operator"),
		"role casing":  mint(t, "ann", "*", "Admin"),
	} {
		t.Run(name, func(t *testing.T) {
			got := r.get(path, "Authorization", header)
			got.refused(wire.CodeUnauthenticated)
			if got.header.Get("WWW-Authenticate") == "" {
				t.Error("no WWW-Authenticate")
			}
		})
	}
}

// TestPermissions tries every route with every role: the table decides, and
// only /health and /ready are open.
func TestPermissions(t *testing.T) {
	r := newRig(t, withSecret)
	least := map[string]string{
		"getHealth": "", "getReady": "",
		"putTenant": "admin", "deleteTenant": "admin", "transferLeader": "admin", "removeNode": "admin", "drainNode": "admin", "undrainNode": "admin", "demoteNode": "admin", "undemoteNode": "admin",
		"getSnapshot": "admin", "putSnapshot": "admin", "streamClusterEvents": "admin", "openEventSocket": "admin",
		"putFleet": "operator", "deleteFleet": "operator", "changeFleet": "operator", "rollbackFleet": "operator",
		"putReadOnly": "admin", "finalizeCluster": "admin",
		"putEndpoints": "operator", "deleteEndpoints": "operator", "deleteProxy": "operator", "retryProxy": "operator",
		"putSecret": "operator", "deleteSecret": "operator",
	}
	roles := []string{"", "viewer", "operator", "admin"}
	path := strings.NewReplacer("{tenant}", "default", "{fleet}", "edge", "{revision}", "1", "{type}", "cluster",
		"{name}", "x", "{service}", "x", "{secret}", "x", "{proxy}", "x", "{node}", "x")
	for _, route := range api.Routes() {
		need, listed := least[route.Operation]
		if !listed {
			need = "viewer"
		}
		admitted := false
		for _, role := range roles {
			admitted = admitted || role == need
			header := ""
			if role != "" {
				header = mint(t, "ann", "*", role)
			}
			query := ""
			if route.Kind == api.KindStream {
				query = "?follow=false"
			}
			got := r.send(route.Method, path.Replace(route.Pattern)+query, "", "Authorization", header)
			if barred := got.status == 401 || got.status == 403; barred == admitted {
				t.Errorf("%s as %q: status %d", route.Operation, role, got.status)
			}
		}
	}
}

// TestTenantBound: a token for one tenant sees and writes that one.
func TestTenantBound(t *testing.T) {
	r := newRig(t, withSecret)
	root := mint(t, "root", "", "admin")
	for _, name := range []string{"acme", "umbra"} {
		r.put("/api/v1/tenants/"+name, "", "Authorization", root).is(201)
	}
	bound := mint(t, "ann", "acme", "admin")
	r.put("/api/v1/tenants/acme/fleets/a", "", "Authorization", bound).is(201)
	r.put("/api/v1/tenants/umbra/fleets/a", "", "Authorization", bound).refused(wire.CodeForbidden)
	r.get("/api/v1/tenants/umbra", "Authorization", bound).refused(wire.CodeForbidden)
	r.get("/api/v1/tenants/nope", "Authorization", bound).refused(wire.CodeForbidden)
	r.put("/api/v1/tenants/acme", "", "Authorization", bound).refused(wire.CodeForbidden)
	r.post("/api/v1/cluster/leader", "", "Authorization", bound).refused(wire.CodeForbidden)
	list := decoded[wire.List[wire.Tenant]](r.get("/api/v1/tenants", "Authorization", bound), 200)
	if len(list.Items) != 1 || list.Items[0].Name != "acme" {
		t.Errorf("tenants: %+v", list)
	}
	events := decoded[wire.History](r.get("/api/v1/tenants/acme/history?kind=fleet_put", "Authorization", bound), 200)
	if len(events.Items) != 1 || events.Items[0].By != "ann" {
		t.Errorf("who did it: %+v", events)
	}
}

// TestOwnAuthenticator: the seam for other kinds of identities.
func TestOwnAuthenticator(t *testing.T) {
	r := newRig(t, func(_ *rig, _ *api.Config, d *api.Deps) { d.Auth = byHeader{} })
	r.get("/api/v1/tenants", "X-User", "ann").is(200)
	r.put("/api/v1/tenants/default/fleets/a", "", "X-User", "ann").refused(wire.CodeForbidden)
}

type byHeader struct{}

func (byHeader) Authenticate(r *http.Request) (api.Subject, error) {
	return api.Subject{Name: r.Header.Get("X-User"), Tenant: "*", Role: api.RoleViewer}, nil
}
