package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

func (a *app) clusterReadOnly() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "read-only",
		Short: "Have the cluster refuse what tenants write, or let it pass again",
		Long: `Read-only has every node refuse what tenants write: tenants, fleets, change sets, endpoints, secrets and the
deletion of proxies. "on" answers the log index behind which no write is applied. Proxies are served and written
down as ever, dry runs are answered, and the archive and the membership go on. Without on or off it says how it is.`,
		Example: `  ecpctl cluster read-only
  ecpctl cluster read-only on -m "moving the database"
  ecpctl cluster read-only off`,
		Args: noArguments,
		RunE: a.withClient(func(cmd *cobra.Command, c *client.Client, _ []string) error {
			is, err := c.ReadOnly(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(is, func(t *table) { t.line("%s", readOnly(*is)) })
		}),
	}
	cmd.AddCommand(
		a.setReadOnly(true, "on", "Refuse what tenants write", `  ecpctl cluster read-only on -m "moving the database"`),
		a.setReadOnly(false, "off", "Let writes pass again", `  ecpctl cluster read-only off`),
	)
	return cmd
}

func (a *app) setReadOnly(on bool, use, short, example string) *cobra.Command {
	in := wire.ReadOnlySet{ReadOnly: on}
	cmd := &cobra.Command{
		Use: use, Short: short, Example: example, Args: noArguments,
		RunE: a.withClient(func(cmd *cobra.Command, c *client.Client, _ []string) error {
			is, err := c.SetReadOnly(cmd.Context(), in)
			if err != nil {
				return err
			}
			return a.show(is, func(t *table) { t.line("%s", readOnly(*is)) })
		}),
	}
	cmd.Flags().StringVarP(&in.Message, "message", "m", "", "why; it is shown with every refusal")
	return cmd
}

// readOnly is the mode in a line.
func readOnly(r wire.ReadOnly) string {
	if !r.ReadOnly {
		return "writes are allowed"
	}
	line := "read-only"
	if r.Since != nil {
		line += " since " + instant(*r.Since)
	}
	return fmt.Sprintf("%s%s%s (index %d)", line, after(" by ", r.By), after(": ", r.Message), r.Index)
}
