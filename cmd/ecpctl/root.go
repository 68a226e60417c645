package main

import (
	"cmp"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
)

const defaultServer = "http://127.0.0.1:8080"

// app is one run of the program.
type app struct {
	in       io.Reader
	out, err io.Writer

	// Global flags.
	server, tenant, output string
	token, tokenFile       string
	timeout                time.Duration
	strong                 bool

	// started: the command line was understood.
	started bool
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "ecpctl",
		Short: "Operate fleets of Envoy proxies through an envoy-control-plane cluster",
		Long: `ecpctl configures fleets of Envoy proxies through an envoy-control-plane cluster and
shows how far they are.

Exit codes: 0 done, 1 refused or failed, 2 usage, 3 --wait ran out, 4 rejected by a proxy.`,
		Example: `  ecpctl apply -f edge/ --fleet edge --wait
  ecpctl proxies --fleet edge
  ecpctl --server http://cp-0:8080,http://cp-1:8080,http://cp-2:8080 cluster`,
		Args:              cobra.NoArgs,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.start() },
		RunE:              needsVerb,
	}
	a.addGlobalFlags(root)
	root.AddCommand(
		a.applyCommand(), a.diffCommand(), a.rollbackCommand(), a.getCommand(), a.historyCommand(), a.eventsCommand(), a.reportsCommand(),
		a.proxiesCommand(), a.endpointsCommand(), a.secretsCommand(), a.createCommand(), a.deleteCommand(),
		a.archiveCommand(), a.clusterCommand(), a.backupCommand(), a.restoreCommand(), a.bootstrapCommand(), a.tokenCommand(), a.completionCommand(), a.versionCommand(),
	)
	return root
}

func (a *app) addGlobalFlags(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringVar(&a.server, "server", cmp.Or(os.Getenv("ECP_SERVER"), defaultServer),
		"nodes of the cluster, `URL[,URL...]` (ECP_SERVER)")
	flags.StringVar(&a.tenant, "tenant", cmp.Or(os.Getenv("ECP_TENANT"), client.DefaultTenant),
		"tenant to work in (ECP_TENANT)")
	flags.StringVar(&a.token, "token", "", "bearer token (ECP_TOKEN)")
	flags.StringVar(&a.tokenFile, "token-file", "", "`FILE` with the bearer token (ECP_TOKEN_FILE)")
	flags.StringVarP(&a.output, "output", "o", "table", "table, json or yaml")
	flags.DurationVar(&a.timeout, "timeout", client.DefaultRetryFor, "how long to try until a node answers")
	flags.BoolVar(&a.strong, "strong", false, "read with the confirmation of a quorum")
}

// start checks the global flags. After it the command line is understood.
func (a *app) start() error {
	switch a.output {
	case "table", "json", "yaml":
	default:
		return misuse("--output is %q; it is table, json or yaml", a.output)
	}
	if a.timeout <= 0 {
		return misuse("--timeout must be positive")
	}
	a.started = true
	return nil
}

// client returns a client of the cluster that the flags name.
func (a *app) client() (*client.Client, error) {
	token, err := a.bearer()
	if err != nil {
		return nil, err
	}
	c, err := client.New(client.Options{
		Servers: strings.Split(a.server, ","), Tenant: a.tenant, Token: token,
		Strong: a.strong, RetryFor: a.timeout, UserAgent: "ecpctl",
	})
	if err != nil {
		return nil, misuse("--server: %w", err)
	}
	return c, nil
}

// bearer returns the token, "" for none: what flags say before the environment.
func (a *app) bearer() (string, error) {
	file := a.tokenFile
	if a.token == "" && file == "" && os.Getenv("ECP_TOKEN") == "" {
		file = os.Getenv("ECP_TOKEN_FILE")
	}
	if file == "" {
		return cmp.Or(a.token, os.Getenv("ECP_TOKEN")), nil
	}
	if a.token != "" {
		return "", misuse("give either --token or --token-file")
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return "", misuse("--token-file: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}

// withClient is the usual shape of a verb: a client and the arguments.
func (a *app) withClient(do func(*cobra.Command, *client.Client, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		defer c.Close()
		return do(cmd, c, args)
	}
}

// needsVerb is what a command does that only groups others.
func needsVerb(cmd *cobra.Command, _ []string) error {
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return misuse("%s needs one of: %s", cmd.CommandPath(), strings.Join(names, ", "))
}

// addFleet adds --fleet.
func addFleet(cmd *cobra.Command, fleet *string, usage string) {
	cmd.Flags().StringVar(fleet, "fleet", "", usage)
}

func needFleet(fleet string) error {
	if fleet == "" {
		return misuse("--fleet is needed")
	}
	return nil
}
