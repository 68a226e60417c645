package main

import (
	"encoding/json"
	"net"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

func (a *app) endpointsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "endpoints",
		Short: "Show and change the endpoints of services",
		Long: `Endpoints are a tenant's ClusterLoadAssignments, by service. They are live: a change reaches the proxies at
once and makes no revision.`,
		Example: `  ecpctl endpoints list
  ecpctl endpoints put web 10.0.0.1:8080 10.0.0.2:8080`,
		Args: cobra.NoArgs,
		RunE: needsVerb,
	}
	cmd.AddCommand(a.endpointsList(), a.endpointsGet(), a.endpointsPut(), a.endpointsDelete())
	return cmd
}

func (a *app) endpointsList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the tenant's services and how many endpoints they have",
		Example: `  ecpctl endpoints list
  ecpctl endpoints list -o yaml`,
		Args: noArguments,
		RunE: a.withClient(func(cmd *cobra.Command, c *client.Client, _ []string) error {
			all, err := client.Collect(c.EndpointsOf(cmd.Context()))
			return showAll(a, all, err, func(t *table, items ...wire.Endpoints) {
				t.row("SERVICE", "ENDPOINTS", "VERSION", "AT", "BY")
				for _, e := range items {
					t.row(e.Service, len(addresses(e.Resource)), e.Version, e.At, e.By)
				}
			})
		}),
	}
}

func (a *app) endpointsGet() *cobra.Command {
	return &cobra.Command{
		Use:   "get SERVICE",
		Short: "Show the endpoints of a service",
		Example: `  ecpctl endpoints get web
  ecpctl endpoints get web -o yaml`,
		Args: cobra.ExactArgs(1),
		RunE: a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
			e, err := c.GetEndpoints(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.show(e, func(t *table) {
				t.row("ADDRESS", "HEALTH", "WEIGHT", "PRIORITY", "LOCALITY")
				for _, at := range addresses(e.Resource) {
					t.row(at.address, at.health, at.weight, at.priority, at.locality)
				}
			})
		}),
	}
}

func (a *app) endpointsPut() *cobra.Command {
	f := &applyFlags{}
	cmd := &cobra.Command{
		Use:   "put {SERVICE HOST:PORT... | -f FILE}",
		Short: "Replace the endpoints of a service",
		Long: `Put replaces the endpoints of a service: by plain addresses, or by ClusterLoadAssignments from files, each of
which names its service in cluster_name. Addresses are IPs; a name is looked up by nobody.`,
		Example: `  ecpctl endpoints put web 10.0.0.1:8080 10.0.0.2:8080
  ecpctl endpoints put -f endpoints.yaml`,
	}
	cmd.Flags().StringArrayVarP(&f.files, "filename", "f", nil, "`FILE`, folder, or - for standard input; repeatable")
	cmd.RunE = a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
		p, err := a.endpointsPlan(f, args)
		if err != nil {
			return err
		}
		done := &applied{Tenant: c.Tenant()}
		err = a.putEndpoints(cmd.Context(), c, p.endpoints, done)
		return showWritten(a, done.Endpoints, err)
	})
	return cmd
}

// endpointsPlan is what the files, or a service and its addresses, come to.
func (a *app) endpointsPlan(f *applyFlags, args []string) (*plan, error) {
	if len(f.files) > 0 {
		if len(args) > 0 {
			return nil, misuse("give either files or a service with its addresses")
		}
		return a.planOfOnly(assignmentType, f.files)
	}
	if len(args) < 2 {
		return nil, misuse("a service and its addresses are needed, or -f; \"ecpctl endpoints delete\" takes all away")
	}
	raw, err := assign(args[0], args[1:])
	if err != nil {
		return nil, err
	}
	return &plan{endpoints: []live{{args[0], document{raw, "endpoints of " + args[0]}}}}, nil
}

// assign makes the ClusterLoadAssignment of plain addresses.
func assign(service string, hostPorts []string) (json.RawMessage, error) {
	type object = map[string]any
	var hosts []object
	for _, at := range hostPorts {
		host, port, err := net.SplitHostPort(at)
		if err != nil || net.ParseIP(host) == nil {
			return nil, misuse("%q is not IP:port", at)
		}
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil || number == 0 {
			return nil, misuse("%q has no port from 1 to 65535", at)
		}
		hosts = append(hosts, object{"endpoint": object{
			"address": object{"socket_address": object{"address": host, "port_value": number}},
		}})
	}
	return json.Marshal(object{
		"@type": assignmentType, "cluster_name": service, "endpoints": []object{{"lb_endpoints": hosts}},
	})
}

func (a *app) endpointsDelete() *cobra.Command {
	return &cobra.Command{
		Use:     "delete SERVICE",
		Short:   "Delete the endpoints of a service",
		Example: `  ecpctl endpoints delete web`,
		Args:    cobra.ExactArgs(1),
		RunE: a.withClient(func(cmd *cobra.Command, c *client.Client, args []string) error {
			d, err := c.DeleteEndpoints(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.deleted("endpoints of "+args[0], d)
		}),
	}
}
