package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/org/envoy-control-plane/deploy/bootstrap"
	"github.com/org/envoy-control-plane/deploy/local"
)

// envoyBin is an Envoy of some version.
type envoyBin struct{ version, path string }

// envoys fetches every pinned Envoy and returns them, oldest first. ENVOY_BIN
// takes the place of the newest.
func envoys(t *testing.T) []envoyBin {
	t.Helper()
	fetch := exec.CommandContext(t.Context(), "python3", "../local/fetch_envoy.py", "--all")
	fetch.Stderr = os.Stderr
	out, err := fetch.Output()
	if err != nil {
		t.Fatalf("fetch the pinned Envoys: %v", err)
	}
	var all []envoyBin
	for path := range strings.FieldsSeq(string(out)) {
		all = append(all, envoyBin{filepath.Base(filepath.Dir(path)), path})
	}
	if own := os.Getenv("ENVOY_BIN"); own != "" {
		all[len(all)-1].path = own
	}
	return all
}

// oldestAndNewest are the ends of what envoys returns.
func oldestAndNewest(t *testing.T) []envoyBin {
	all := envoys(t)
	return []envoyBin{all[0], all[len(all)-1]}
}

// launch starts an Envoy of a version, from a bootstrap that change may edit.
// It ends, at the latest, with the test.
func (c *cluster) launch(t *testing.T, bin string, o bootstrap.Options, change func(string) string) *local.Envoy {
	t.Helper()
	if len(o.XDS) == 0 {
		for _, n := range c.nodes {
			o.XDS = append(o.XDS, n.XDS())
		}
	}
	text, err := bootstrap.Envoy(o)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		text = []byte(change(string(text)))
	}
	envoy, err := local.StartEnvoy(t.Context(), local.EnvoyOptions{Bin: bin, Bootstrap: text, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	stopEnvoy(t, envoy, o.Proxy)
	return envoy
}

// in returns the cluster for a subtest, whose failures are its own.
func (c *cluster) in(t *testing.T) *cluster {
	sub := *c
	sub.t = t
	return &sub
}

const adsSource = "{ads: {}, resource_api_version: V3}"

// httpListener is a listener that takes the routes "edge" from a source and has
// HTTP filters: each the name of its type, and what follows in its configuration.
func httpListener(name string, port int, source string, filters ...string) string {
	var out strings.Builder
	fmt.Fprintf(&out, `---
"@type": type.googleapis.com/envoy.config.listener.v3.Listener
name: %s
address: {socket_address: {address: 127.0.0.1, port_value: %d}}
filter_chains:
  - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: edge
          rds: {route_config_name: edge, config_source: %s}
          http_filters:
`, name, port, source)
	for i, filter := range filters {
		fmt.Fprintf(&out, `            - {name: filter-%d, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.%s}}`+"\n", i, filter)
	}
	return out.String()
}

// ownSource has a stream of its own to the control plane.
func ownSource(sotw bool) string {
	api := "DELTA_GRPC"
	if sotw {
		api = "GRPC"
	}
	return "{api_config_source: {api_type: " + api + ", transport_api_version: V3, " +
		"grpc_services: [{envoy_grpc: {cluster_name: envoy_control_plane}}]}, resource_api_version: V3}"
}
