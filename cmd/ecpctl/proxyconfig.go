package main

import (
	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

func (a *app) proxyConfigCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "config PROXY",
		Short: "Show what a proxy should have and what it has, resource by resource",
		Long: `config shows each resource of a proxy with the version that it should have, the one that it has, and what is
between them. In JSON and YAML the messages are there too; of secrets never.`,
		Example: `  ecpctl proxies config edge-1
  ecpctl proxies config edge-1 -o yaml`,
		Args: cobra.ExactArgs(1),
		RunE: a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
			p, err := c.ProxyConfig(cmd.Context(), args[0], !a.forPeople())
			if err != nil {
				return err
			}
			return a.show(p, func(t *table) { proxyConfig(t, p) })
		}),
	}
}

func proxyConfig(t *table, p *wire.ProxyConfig) {
	t.line("proxy %s of fleet %s, %s; the fleet is at revision %d", clean(p.ID), clean(p.Fleet), p.Status, p.Revision)
	for _, m := range p.Missing {
		t.line("node %s does not tell of its streams: %s", clean(m.Node), clean(m.Reason))
	}
	if len(p.Streams) == 0 {
		configRows(t, p.Types)
	}
	for _, s := range p.Streams {
		t.line("\nnode %s, %s from %s since %s, at revision %d%s", clean(s.Node), clean(s.Protocol), clean(s.Peer),
			instant(s.Since), s.Revision, after(", waits for ", s.WaitingFor))
		configRows(t, s.Types)
	}
}

func configRows(t *table, types []wire.TypeConfig) {
	t.line("")
	t.row("TYPE", "NAME", "SHOULD", "HAS", "STATUS")
	for _, c := range types {
		for _, r := range c.Resources {
			t.row(c.Type, r.Name, r.Should, r.Acked, r.Status)
		}
	}
	for _, c := range types {
		said := ""
		for _, r := range c.Resources {
			if r.Rejected != nil && r.Rejected.Detail != said {
				said = r.Rejected.Detail
				t.line("\nEnvoy rejects %s: %s", clean(c.Type), clean(said))
			}
		}
	}
}

func (a *app) proxyRetryCommand() *cobra.Command {
	var typ string
	cmd := &cobra.Command{
		Use:   "retry PROXY",
		Short: "Send once more what a proxy rejected",
		Long: `What a proxy rejects is not sent again until it changes. retry asks for one more attempt, for when the reason
lay outside of the configuration: a port that was taken, a file that was missing.`,
		Example: `  ecpctl proxies retry edge-1
  ecpctl proxies retry edge-1 --type listener`,
		Args: cobra.ExactArgs(1),
		RunE: a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
			r, err := c.RetryProxy(cmd.Context(), args[0], typ)
			if err != nil {
				return err
			}
			for _, m := range r.Missing {
				a.note("warning: node %s does not answer: %s", clean(m.Node), clean(m.Reason))
			}
			return a.show(r, func(t *table) { t.line("%s sent again", plural(r.Retried, "rejected response")) })
		}),
	}
	cmd.Flags().StringVar(&typ, "type", "", "only what it rejected of this type")
	return cmd
}
