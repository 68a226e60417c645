package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/deploy/bootstrap"
)

func (a *app) bootstrapCommand() *cobra.Command {
	var o bootstrap.Options
	var given []string
	cmd := &cobra.Command{
		Use:   "bootstrap PROXY --fleet FLEET [--xds HOST:PORT,...]",
		Short: "Print an Envoy bootstrap for a proxy",
		Long: `Bootstrap prints what an Envoy is started with to become a proxy of a fleet. Without --xds it asks the cluster
for its nodes' xDS addresses and lists all of them, so that the proxy can move between them.`,
		Example: `  ecpctl bootstrap edge-1 --fleet edge > bootstrap.yaml && envoy -c bootstrap.yaml
  ecpctl bootstrap edge-1 --fleet edge --xds cp.example.com:18000 --zone eu-1a --label stage=canary
  ecpctl bootstrap edge-1 --fleet edge --metrics-interval 10s
  ecpctl --tenant acme bootstrap mesh-1 --fleet mesh --sotw -o json`,
		Args: cobra.ExactArgs(1),
	}
	flags := cmd.Flags()
	addFleet(cmd, &o.Fleet, "fleet of the proxy")
	flags.StringSliceVar(&o.XDS, "xds", nil, "xDS addresses of nodes, `HOST:PORT,...`; default: all nodes' addresses")
	flags.StringVar(&o.Region, "region", "", "region of the proxy's locality")
	flags.StringVar(&o.Zone, "zone", "", "zone of the proxy's locality")
	flags.StringVar(&o.SubZone, "sub-zone", "", "sub-zone of the proxy's locality")
	flags.StringArrayVar(&given, "label", nil, "label `NAME=VALUE` of the proxy; repeatable")
	flags.StringVar(&o.Admin, "admin", "", "`HOST:PORT` of Envoy's admin interface; default: a free port on loopback")
	flags.BoolVar(&o.SotW, "sotw", false, "state of the world instead of deltas")
	flags.BoolVar(&o.Services, "services", false, "a stream for each discovery service instead of one for all")
	flags.DurationVar(&o.InitialFetchTimeout, "initial-fetch-timeout", 0,
		"how long the Envoy waits for its first configuration before it starts without; 0: for ever")
	flags.DurationVar(&o.MetricsInterval, "metrics-interval", 0, "how often the Envoy sends its metrics to the nodes (10s); 0: never")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Proxy = args[0]
		if a.tenant != client.DefaultTenant {
			o.Tenant = a.tenant
		}
		var err error
		if o.Labels, err = parseLabels(given); err != nil {
			return err
		}
		return a.bootstrap(cmd.Context(), o)
	}
	return cmd
}

func (a *app) bootstrap(ctx context.Context, o bootstrap.Options) error {
	if err := needFleet(o.Fleet); err != nil {
		return err
	}
	if o.InitialFetchTimeout < 0 {
		return misuse("--initial-fetch-timeout must not be negative")
	}
	if o.MetricsInterval != 0 && (o.MetricsInterval < time.Second || o.MetricsInterval > 5*time.Minute) {
		return misuse("--metrics-interval must be 1s to 5m, or 0 for never") // Envoy takes no longer one
	}
	if len(o.XDS) == 0 {
		found, err := a.xdsAddresses(ctx)
		if err != nil {
			return err
		}
		o.XDS = found
	}
	text, err := bootstrap.Envoy(o)
	if err != nil {
		return misuse("%w", err)
	}
	if a.output == "json" {
		var v any
		if err := yaml.Unmarshal(text, &v); err != nil {
			return err
		}
		return a.show(v, nil)
	}
	_, err = a.out.Write(text)
	return err
}

// xdsAddresses asks the cluster where its nodes serve xDS.
func (a *app) xdsAddresses(ctx context.Context) ([]string, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	cl, err := c.Cluster(ctx)
	if err != nil {
		return nil, err
	}
	var addresses []string
	for _, n := range cl.Nodes {
		if at := n.XDSAddress; at != "" {
			addresses = append(addresses, at)
		}
	}
	slices.Sort(addresses)
	if len(addresses) == 0 {
		return nil, errors.New("no node tells its xDS address; give them by --xds")
	}
	return slices.Compact(addresses), nil
}
