package e2e

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/deploy/bootstrap"
)

// onDemand is a listener with the on-demand filter, and its route configuration.
func onDemand(port int, filter, routes string) string {
	return httpListener("edge", port, adsSource, "on_demand.v3.OnDemand"+filter, "router.v3.Router") + fmt.Sprintf(`---
"@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
name: edge
%s
`, routes)
}

// quickly is a source whose first answer is waited for a moment only: Envoy
// takes an answer without virtual hosts for none.
func quickly(source string) string {
	return strings.TrimSuffix(source, "}") + ", initial_fetch_timeout: 0.5s}"
}

// hostYAML is a virtual host that answers by itself.
func hostYAML(name, domains, says string) string {
	return fmt.Sprintf(`---
name: edge/%[1]s
resource:
  "@type": type.googleapis.com/envoy.config.route.v3.VirtualHost
  name: %[1]s
  domains: %[2]s
  routes: [{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: %[3]s}}}]
`, name, domains, says)
}

// hostSays returns nil when a request to a host has the answer, "" for a 404.
func hostSays(port int, host, want string) error {
	req, err := http.NewRequest(http.MethodGet, "http://127.0.0.1:"+strconv.Itoa(port)+"/", http.NoBody)
	if err != nil {
		return err
	}
	req.Host = host
	start := time.Now()
	status, body, err := do(req)
	if err != nil {
		return err
	}
	if want == "" && status != http.StatusNotFound || want != "" && (status != http.StatusOK || body != want) {
		return fmt.Errorf("%s: %d %q after %s, want %q", host, status, body, time.Since(start), want)
	}
	return nil
}

func TestVirtualHostsComeAndGo(t *testing.T) {
	c := startCluster(t, 1, "")
	ends := oldestAndNewest(t)
	for _, of := range []struct {
		name, source string
		envoy        envoyBin
	}{
		{"oldest", ownSource(false), ends[0]}, // it has no VHDS by ADS
		{"newest", ownSource(false), ends[1]},
		{"newest-ads", adsSource, ends[1]},
	} {
		t.Run(of.name, func(t *testing.T) {
			t.Parallel()
			c := c.in(t)
			port := freePorts(t, 1)[0]
			fleet := "hosts-" + of.name
			apply := func(yaml string) {
				t.Helper()
				c.ecpctl(0, yaml, "apply", "-f", "-", "--fleet", fleet, "--prune", "--wait=20s")
			}
			base := onDemand(port, "", "vhds: {config_source: "+quickly(of.source)+"}")
			apply(base)
			c.launch(t, of.envoy.path, bootstrap.Options{Proxy: fleet, Fleet: fleet}, nil)
			says := func(host, want string) {
				t.Helper()
				eventually(t, 20*time.Second, "answers", func() error { return hostSays(port, host, want) })
			}
			says("a.com", "")
			apply(base + hostYAML("web", "[a.com]", "one"))
			says("a.com", "one")
			says("b.com", "")
			apply(base + hostYAML("web", "[a.com, '*.a.com']", "two") + hostYAML("prefix", "['a.*']", "prefix"))
			for host, want := range map[string]string{"a.com": "two", "www.a.com": "two", "a.net": "prefix", "b.com": ""} {
				says(host, want)
			}
			apply(base + hostYAML("rest", "['*']", "rest") + hostYAML("web", "[a.com]", "three"))
			for host, want := range map[string]string{"a.com": "three", "www.a.com": "rest", "a.net": "rest", "b.com": "rest"} {
				says(host, want)
			}
			apply(base + hostYAML("web", "[a.com]", "three"))
			for host, want := range map[string]string{"a.com": "three", "a.net": "", "b.com": ""} {
				says(host, want)
			}
			apply(base)
			says("a.com", "")
		})
	}
}

// An Envoy that asks for no clusters by itself gets those that requests name.
func TestClustersOnDemand(t *testing.T) {
	c := startCluster(t, 1, "")
	upstream := startUpstream(t, "demand")
	for _, envoy := range oldestAndNewest(t) {
		t.Run(envoy.version, func(t *testing.T) {
			t.Parallel()
			c := c.in(t)
			port := freePorts(t, 1)[0]
			fleet := "demand-" + envoy.version
			base := onDemand(port, ", odcds: {source: "+adsSource+", timeout: 1s}",
				`virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster_header: x-cluster}}]}]`)
			cluster := fmt.Sprintf(demandedCluster, fleet) + grpcEndpoints(fleet, strconv.Itoa(upstream))
			c.ecpctl(0, base, "apply", "-f", "-", "--fleet", fleet)
			c.launch(t, envoy.path, bootstrap.Options{Proxy: fleet, Fleet: fleet}, withoutClusters)
			asked := func(want int) func() error {
				return func() error {
					req, err := http.NewRequest(http.MethodGet, "http://127.0.0.1:"+strconv.Itoa(port)+"/", http.NoBody)
					if err != nil {
						return err
					}
					req.Header.Set("X-Cluster", fleet)
					status, body, err := do(req)
					if err == nil && status != want {
						err = fmt.Errorf("%d %s, want %d", status, body, want)
					}
					return err
				}
			}
			eventually(t, 20*time.Second, "a miss", asked(http.StatusServiceUnavailable))
			c.ecpctl(0, base+cluster, "apply", "-f", "-", "--fleet", fleet, "--prune", "--wait=20s")
			eventually(t, 20*time.Second, "the cluster", asked(http.StatusOK))
			c.ecpctl(0, base, "apply", "-f", "-", "--fleet", fleet, "--prune", "--force", "--wait=20s")
			eventually(t, 20*time.Second, "the cluster has gone", asked(http.StatusServiceUnavailable))
		})
	}
}

const demandedCluster = `---
"@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
name: %s
type: EDS
eds_cluster_config: {eds_config: {ads: {}, resource_api_version: V3}}
`

// withoutClusters takes the wildcard of clusters out of a bootstrap.
func withoutClusters(text string) string {
	before, rest, _ := strings.Cut(text, "  cds_config:\n")
	_, after, _ := strings.Cut(rest, "  lds_config:\n")
	return before + "  lds_config:\n" + after
}
