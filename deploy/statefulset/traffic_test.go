package statefulset

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/org/envoy-control-plane/deploy/local"
)

// traffic is HTTP requests through a real Envoy that the cluster configures.
type traffic struct {
	upstreams []*local.Upstream
	port      int    // of the Envoy's listener
	target    string // of the requests

	sent, failed atomic.Int64
	mu           sync.Mutex
	failures     []string // the first ones
}

// edgeFleet is what the Envoy gets; its endpoints are the service "web".
const edgeFleet = `[
 {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "web", "type": "EDS", "connect_timeout": "1s",
  "eds_cluster_config": {"eds_config": {"ads": {}, "resource_api_version": "V3"}}},
 {"@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration", "name": "web", "virtual_hosts": [
  {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "web"}}]}]},
 {"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": "web",
  "address": {"socket_address": {"address": "127.0.0.1", "port_value": %d}},
  "filter_chains": [{"filters": [{"name": "hcm", "typed_config": {
   "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
   "stat_prefix": "web", "rds": {"route_config_name": "web", "config_source": {"ads": {}, "resource_api_version": "V3"}},
   "http_filters": [{"name": "router", "typed_config": {
    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}]`

// startUpstreams starts what the requests end at: two servers, that never end.
func startUpstreams(t *testing.T) *traffic {
	t.Helper()
	ports, err := local.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	r := &traffic{port: ports[0], target: "http://" + local.Loopback(ports[0]) + "/"}
	for i := range 2 {
		u, err := local.StartUpstream("127.0.0.1:0", local.UpstreamHandler(fmt.Sprint("web-", i)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_ = u.Stop(ctx) // the Envoy's connections are closed
		})
		r.upstreams = append(r.upstreams, u)
	}
	return r
}

// start starts the Envoy, which finds the nodes in the DNS, and then requests
// without a pause.
func (r *traffic) start(t *testing.T, o *objects) {
	t.Helper()
	text, err := o.bootstrap("envoy", "edge")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	envoy, err := local.StartEnvoy(t.Context(), local.EnvoyOptions{Bootstrap: text, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "envoy.log"))
			t.Logf("log of the Envoy:\n%s", log[max(0, len(log)-4000):])
		}
		envoy.Kill()
	})
	local.Eventually(t, 30*time.Second, "the Envoy routes", func() error { return r.request(http.DefaultClient) })
	ctx, cancel := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() { r.ask(ctx) })
	}
	t.Cleanup(func() { cancel(); clients.Wait() })
}

// bootstrap is the one that the manifests have for Envoys, completed as its
// command line does.
func (o *objects) bootstrap(proxy, fleet string) ([]byte, error) {
	var all struct {
		Node map[string]any `json:"node"`

		Admin            any `json:"admin"`
		DynamicResources any `json:"dynamic_resources"`
		StaticResources  any `json:"static_resources"`
	}
	text := o.data["ConfigMap/"+o.set.Name+"-bootstrap"]["bootstrap.yaml"]
	if err := yaml.UnmarshalStrict([]byte(text), &all); err != nil {
		return nil, err
	}
	if all.Node == nil {
		return nil, fmt.Errorf("the manifests have no bootstrap for Envoys: %q", text)
	}
	all.Node["id"], all.Node["cluster"] = proxy, fleet
	return yaml.Marshal(all)
}

// ask makes requests until ctx ends.
func (r *traffic) ask(ctx context.Context) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}
	for ctx.Err() == nil {
		r.sent.Add(1)
		if err := r.request(client); err != nil {
			r.failed.Add(1)
			r.mu.Lock()
			if len(r.failures) < 5 {
				r.failures = append(r.failures, time.Now().UTC().Format("15:04:05.000 ")+err.Error())
			}
			r.mu.Unlock()
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (r *traffic) request(client *http.Client) error {
	resp, err := client.Get(r.target)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}
	return err
}

// address of one of the upstreams, by turns.
func (r *traffic) address(turn int) (host, port string) {
	host, port, _ = net.SplitHostPort(r.upstreams[turn%len(r.upstreams)].Addr)
	return host, port
}
