package api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// clockSkew is how far the clocks of who mints a token and who reads it may
// differ.
const clockSkew = 30 * time.Second

// maxSubjectBytes bounds what stands as "by" on everything that a subject
// changes.
const maxSubjectBytes = 256

// Claims are what a token says of its bearer.
type Claims struct {
	// Tenant is the only one that the bearer sees; "*", or empty for an
	// admin, means all.
	Tenant string `json:"tenant,omitempty"`
	// Role is viewer, operator or admin.
	Role string `json:"role"`
	jwt.RegisteredClaims
}

// tokens authenticates bearers of HS256 tokens.
type tokens struct {
	secret []byte
	parser *jwt.Parser
}

// newAuthenticator returns the authenticator for a secret, an open door for
// none.
func newAuthenticator(secret []byte) Authenticator {
	if len(secret) == 0 {
		return anonymous{}
	}
	return &tokens{secret: secret, parser: jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithExpirationRequired(),
		jwt.WithLeeway(clockSkew),
	)}
}

// Authenticate reads the token of the Authorization header.
func (t *tokens) Authenticate(r *http.Request) (Subject, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return Subject{}, errors.New("the request has no bearer token")
	}
	var claims Claims
	_, err := t.parser.ParseWithClaims(strings.TrimSpace(token), &claims, func(*jwt.Token) (any, error) {
		return t.secret, nil
	})
	if err != nil {
		return Subject{}, fmt.Errorf("the token does not hold: %w", err)
	}
	return claims.subject()
}

func (c *Claims) subject() (Subject, error) {
	s := Subject{Name: c.Subject, Tenant: c.Tenant}
	if c.ExpiresAt != nil { // it is required to be there
		s.Expires = c.ExpiresAt.Add(clockSkew)
	}
	for _, role := range []Role{RoleViewer, RoleOperator, RoleAdmin} {
		if role.String() == c.Role {
			s.Role = role
		}
	}
	switch {
	case s.Role == RoleNone:
		return Subject{}, fmt.Errorf("the token's role %q is not viewer, operator or admin", c.Role)
	case s.Name == "" || len(s.Name) > maxSubjectBytes || !utf8.ValidString(s.Name):
		return Subject{}, fmt.Errorf("the token's subject is not 1 to %d bytes of text", maxSubjectBytes)
	case s.Tenant == "" && s.Role == RoleAdmin:
		s.Tenant = anyTenant
	case s.Tenant == "":
		return Subject{}, errors.New("the token names no tenant")
	}
	return s, nil
}
