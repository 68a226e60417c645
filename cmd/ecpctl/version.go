package main

import (
	"cmp"
	"context"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/wire"
)

// version is set by the linker.
var version = "dev"

// versions is what version prints.
type versions struct {
	Client wire.Version  `json:"client"`
	Server *wire.Version `json:"server,omitempty"`
}

func (a *app) versionCommand() *cobra.Command {
	var clientOnly bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the build of ecpctl and of a node",
		Example: `  ecpctl version
  ecpctl version --client`,
		Args: noArguments,
	}
	cmd.Flags().BoolVar(&clientOnly, "client", false, "ask no node")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.version(cmd.Context(), clientOnly)
	}
	return cmd
}

func (a *app) version(ctx context.Context, clientOnly bool) error {
	v := versions{Client: ownVersion()}
	var err error
	if !clientOnly {
		v.Server, err = a.serverVersion(ctx)
	}
	failed := a.show(v, func(t *table) {
		t.row("PROGRAM", "VERSION", "COMMIT", "GO")
		t.row("ecpctl", v.Client.Version, v.Client.Commit, v.Client.Go)
		if v.Server != nil {
			t.row("node", v.Server.Version, v.Server.Commit, v.Server.Go)
		}
	})
	return cmp.Or(failed, err)
}

func (a *app) serverVersion(ctx context.Context) (*wire.Version, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Version(ctx)
}

// ownVersion is the build of this binary.
func ownVersion() wire.Version {
	v := wire.Version{Version: version, Go: runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v.Commit = s.Value
			}
		}
	}
	return v
}
