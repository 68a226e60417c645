package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

func (a *app) secretsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secrets",
		Short: "Show and change secrets: certificates, keys, passwords",
		Long: `Secrets are a tenant's certificates with their keys, trusted certificates, session ticket keys and other
credentials. They go in and never come out again but to proxies whose fleet names them. They are live: a
change reaches the proxies at once and makes no revision.`,
		Example: `  ecpctl secrets put edge-tls --cert edge.pem --key edge-key.pem
  ecpctl secrets list`,
		Args: cobra.NoArgs,
		RunE: needsVerb,
	}
	cmd.AddCommand(a.secretsList(), a.secretsGet(), a.secretsPut(), a.secretsDelete())
	return cmd
}

func (a *app) secretsList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the tenant's secrets and when their certificates expire",
		Example: `  ecpctl secrets list
  ecpctl secrets list -o yaml`,
		Args: noArguments,
		RunE: a.withClient(func(cmd *cobra.Command, c *client.Client, _ []string) error {
			all, err := client.Collect(c.Secrets(cmd.Context()))
			return showAll(a, all, err, func(t *table, items ...wire.Secret) {
				t.row("NAME", "KIND", "EXPIRES", "KEY", "VERSION", "AT", "BY")
				for _, s := range items {
					t.row(s.Name, s.Kind, expiry(s.Certificates), s.KeyID, s.Version, s.At, s.By)
				}
			})
		}),
	}
}

// expiry is when the first of some certificates expires, "" without one.
func expiry(all []wire.Certificate) any {
	var first time.Time
	for _, c := range all {
		if first.IsZero() || c.NotAfter.Before(first) {
			first = c.NotAfter
		}
	}
	if first.IsZero() {
		return ""
	}
	return first
}

func (a *app) secretsGet() *cobra.Command {
	return &cobra.Command{
		Use:   "get NAME",
		Short: "Show what may be known of a secret: its certificates, never its material",
		Example: `  ecpctl secrets get edge-tls
  ecpctl secrets get edge-tls -o yaml`,
		Args: cobra.ExactArgs(1),
		RunE: a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
			s, err := c.GetSecret(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.show(s, func(t *table) {
				t.row("SUBJECT", "NAMES", "NOT BEFORE", "NOT AFTER", "SHA-256")
				for _, c := range s.Certificates {
					t.row(c.Subject, strings.Join(c.DNSNames, ","), c.NotBefore, c.NotAfter, c.Fingerprint)
				}
			})
		}),
	}
}

func (a *app) secretsPut() *cobra.Command {
	var files []string
	var cert, key string
	cmd := &cobra.Command{
		Use:   "put {NAME --cert FILE --key FILE | -f FILE}",
		Short: "Set a secret",
		Long: `Put sets a secret: a certificate with its key from PEM files, or Envoy Secrets, YAML or JSON with "@type" and
"name", from files. A key must belong to its certificate.`,
		Example: `  ecpctl secrets put edge-tls --cert edge.pem --key edge-key.pem
  ecpctl secrets put -f secret.yaml`,
	}
	flags := cmd.Flags()
	flags.StringArrayVarP(&files, "filename", "f", nil, "`FILE`, folder, or - for standard input; repeatable")
	flags.StringVar(&cert, "cert", "", "PEM `FILE` of the certificate and its chain")
	flags.StringVar(&key, "key", "", "PEM `FILE` of the private key")
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
		p, err := a.secretsPlan(files, args, cert, key)
		if err != nil {
			return err
		}
		done := &applied{Tenant: c.Tenant()}
		err = a.putSecrets(cmd.Context(), c, p.secrets, done)
		return showWritten(a, done.Secrets, err)
	})
	return cmd
}

// secretsPlan is what the files, or a certificate and its key, come to.
func (a *app) secretsPlan(files, args []string, cert, key string) (*plan, error) {
	if len(files) > 0 {
		if len(args) > 0 || cert != "" || key != "" {
			return nil, misuse("give either -f or a name with --cert and --key")
		}
		return a.planOfOnly(secretType, files)
	}
	if len(args) != 1 || cert == "" || key == "" {
		return nil, misuse("a name with --cert and --key is needed, or -f")
	}
	chain, err1 := os.ReadFile(cert)
	private, err2 := os.ReadFile(key)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	type object = map[string]any
	raw, err := json.Marshal(object{
		"@type": secretType, "name": args[0], "tls_certificate": object{
			"certificate_chain": object{"inline_string": string(chain)}, "private_key": object{"inline_string": string(private)},
		},
	})
	return &plan{secrets: []live{{args[0], document{raw, "secret " + args[0]}}}}, err
}

func (a *app) putSecrets(ctx context.Context, c *client.Client, all []live, done *applied) error {
	for _, s := range all {
		origin := func(path string) string { return within(s.origin, path) }
		written, err := c.PutSecret(ctx, s.name, s.raw)
		if err != nil {
			return relocate(err, origin)
		}
		written.Warnings = relocateAll(written.Warnings, origin)
		done.Secrets = append(done.Secrets, *written)
		if written.Unchanged {
			a.say("secret %s: no difference", clean(s.name))
		} else {
			a.say("secret %s put", clean(s.name))
		}
		a.warn(written.Warnings)
	}
	return nil
}

func (a *app) secretsDelete() *cobra.Command {
	return &cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete a secret; proxies keep what they have",
		Example: `  ecpctl secrets delete edge-tls`,
		Args:    cobra.ExactArgs(1),
		RunE: a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
			d, err := c.DeleteSecret(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.deleted("secret "+args[0], d)
		}),
	}
}
