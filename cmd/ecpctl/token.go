package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/spf13/cobra"
)

const (
	roleAdmin = "admin"
	// everyTenant as a claim is not bound to one.
	everyTenant = "*"
	// minSecretBytes is what HS256 asks for.
	minSecretBytes = 32
)

func (a *app) tokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "token",
		Short:   "Make tokens for the REST API",
		Example: `  ecpctl token create --subject alice --role operator`,
		Args:    cobra.NoArgs,
		RunE:    needsVerb,
	}
	cmd.AddCommand(a.tokenCreate())
	return cmd
}

// grant is what a token is to say.
type grant struct {
	subject, role string
	ttl           time.Duration
	allTenants    bool
	secretFile    string
	to            string
}

func (a *app) tokenCreate() *cobra.Command {
	g := &grant{}
	cmd := &cobra.Command{
		Use:   "create --subject NAME --role viewer|operator|admin",
		Short: "Make a token from the secret that the nodes verify with",
		Long: `Create prints a token (JWT, HS256) for the REST API, made from the secret of the nodes: --secret-file,
JWT_SECRET_FILE or JWT_SECRET. No node is asked.

The token is for one tenant, --tenant. That of an admin is for all of them unless --tenant or ECP_TENANT is given.`,
		Example: `  export ECP_TOKEN=$(JWT_SECRET=... ecpctl token create --subject alice --role admin --ttl 8h)
  ecpctl --tenant acme token create --subject ci --role operator --secret-file /etc/ecp/jwt
  ecpctl token create --subject night --role viewer --to token && ecpctl --token-file token cluster`,
		Args: noArguments,
	}
	flags := cmd.Flags()
	flags.StringVar(&g.subject, "subject", "", "`NAME` of the bearer, as the history shows it")
	flags.StringVar(&g.role, "role", "", "viewer, operator or admin")
	flags.DurationVar(&g.ttl, "ttl", time.Hour, "how long the token holds")
	flags.BoolVar(&g.allTenants, "all-tenants", false, "for all tenants, whatever the role")
	flags.StringVar(&g.secretFile, "secret-file", "", "`FILE` with the secret (JWT_SECRET_FILE; else JWT_SECRET)")
	flags.StringVar(&g.to, "to", "", "`FILE` that the token is written to, for its owner alone, instead of printed")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		bound := cmd.Flags().Changed("tenant") || os.Getenv("ECP_TENANT") != ""
		return a.createToken(g, bound)
	}
	return cmd
}

// createToken prints a token. bound: a tenant was asked for.
func (a *app) createToken(g *grant, bound bool) error {
	switch {
	case g.subject == "":
		return misuse("--subject is needed")
	case !slices.Contains([]string{"viewer", "operator", roleAdmin}, g.role):
		return misuse("--role is %q; it is viewer, operator or admin", g.role)
	case g.ttl < time.Second:
		return misuse("--ttl must be a second at least")
	case g.allTenants && bound:
		return misuse("give either --tenant or --all-tenants")
	}
	secret, err := g.secret()
	if err != nil {
		return err
	}
	if len(secret) < minSecretBytes {
		a.note("warning: the secret has %d bytes; HS256 asks for %d", len(secret), minSecretBytes)
	}
	tenant := a.tenant
	if g.allTenants || g.role == roleAdmin && !bound {
		tenant = everyTenant
	}
	now := time.Now()
	expires := now.Add(g.ttl).Truncate(time.Second)
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": g.subject, "role": g.role, "tenant": tenant, "iat": now.Unix(), "exp": expires.Unix(),
	}).SignedString(secret)
	if err != nil {
		return fmt.Errorf("sign the token: %w", err)
	}
	if g.to != "" {
		return os.WriteFile(g.to, []byte(token+"\n"), 0o600)
	}
	made := map[string]string{
		"token": token, "subject": g.subject, "role": g.role, "tenant": tenant, "expires": instant(expires),
	}
	return a.show(made, func(t *table) { t.line("%s", token) })
}

// secret reads the secret as the nodes do: a file's without the white space
// around it, the environment's as it is.
func (g *grant) secret() ([]byte, error) {
	secret := os.Getenv("JWT_SECRET")
	if file := cmp.Or(g.secretFile, os.Getenv("JWT_SECRET_FILE")); file != "" {
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		secret = strings.TrimSpace(string(raw))
	}
	if secret == "" {
		return nil, misuse("there is no secret; give --secret-file, JWT_SECRET_FILE or JWT_SECRET")
	}
	return []byte(secret), nil
}
