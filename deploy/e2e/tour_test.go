package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/deploy/bootstrap"
	"github.com/org/envoy-control-plane/deploy/local"
)

// proxyRow is what the tests read of a proxy.
type proxyRow struct {
	ID, Status, Sync, Fleet string
	Revision                uint64
	Types                   map[string]struct {
		Sent, Acked string
		Rejected    *struct{ Version, Detail string }
	}
}

func (c *cluster) proxy(node int, tenant, id string) (proxyRow, error) {
	var row proxyRow
	err := get(fmt.Sprintf("%s/api/v1/tenants/%s/proxies/%s", c.urls[node], tenant, id), &row)
	return row, err
}

// synced returns nil when every node shows the proxy in sync with a revision.
func (c *cluster) synced(id string, revision uint64) error {
	for i := range c.nodes {
		row, err := c.proxy(i, "default", id)
		if err != nil {
			return err
		}
		if row.Status != "connected" || row.Sync != "synced" || row.Revision != revision {
			return fmt.Errorf("node %d shows %+v", i, row)
		}
	}
	return nil
}

func TestTour(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, local.TestDatabase(t))
	upstream, ports := startUpstream(t, "demo"), freePorts(t, 1)
	c.ecpctl(0, fleetYAML(t, ports[0], upstream), "apply", "-f", "-", "--fleet", "edge", "-m", "first")

	// One Envoy in each protocol; both bind the port.
	for proxy, sotw := range map[string]bool{"edge-delta": false, "edge-sotw": true} {
		c.startEnvoy(bootstrap.Options{Proxy: proxy, Fleet: "edge", SotW: sotw})
	}
	for _, proxy := range []string{"edge-delta", "edge-sotw"} {
		eventually(t, 20*time.Second, proxy+" is configured", func() error { return c.synced(proxy, 1) })
	}
	eventually(t, 10*time.Second, "requests go through", func() error { return routed(ports[0], "/", `"upstream": "demo"`) })

	canary, err := os.ReadFile("../examples/canary.yaml")
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	c.ecpctl(0, string(canary), "apply", "-f", "-", "--fleet", "edge", "-m", "canary", "--wait")
	eventually(t, 10*time.Second, "the new route", func() error { return routed(ports[0], "/v2", "hello from v2") })
	t.Logf("a changed route was visible after %s", time.Since(start))
	for _, proxy := range []string{"edge-delta", "edge-sotw"} {
		eventually(t, 10*time.Second, "the ACK", func() error { return c.synced(proxy, 2) })
	}

	eventually(t, 20*time.Second, "history from Postgres", func() error {
		var page struct {
			Source string
			Items  []struct {
				Kind, By string
				Data     struct{ Message string }
			}
		}
		out := c.ecpctl(0, "", "history", "--fleet", "edge", "-o", "json")
		if err := json.Unmarshal([]byte(out), &page); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		for _, ev := range page.Items {
			if page.Source == "archive" && ev.Kind == "revision_created" && ev.Data.Message == "canary" && ev.By != "" {
				return nil
			}
		}
		return fmt.Errorf("got %s", out)
	})
	c.wantReports(t)

	// What the state has dropped, the archive brings back.
	put(t, c.urls[0]+"/api/v1/tenants/default/fleets/edge", `{"settings": {"revision_history_limit": 1}}`)
	c.ecpctl(0, "", "rollback", "--fleet", "edge", "--to", "1", "--wait")
	c.ecpctl(0, "", "rollback", "--fleet", "edge", "--to", "2", "--wait")
	eventually(t, 10*time.Second, "the route of revision 2", func() error { return routed(ports[0], "/v2", "hello from v2") })
}

// wantReports demands that the archive knows how the canary came to both
// proxies, and that they were there.
func (c *cluster) wantReports(t *testing.T) {
	t.Helper()
	eventually(t, 30*time.Second, "reports from Postgres", func() error {
		for report, want := range map[string]string{
			"convergence": `"revision": 2,`, "changes": `"message": "canary"`, "proxies": `"build": "envoy/`, "availability": `"fleet": "edge"`,
		} {
			out := c.ecpctl(0, "", "reports", report, "--fleet", "edge", "--limit", "1", "-o", "json")
			if !strings.Contains(out, want) || report == "convergence" && !strings.Contains(out, `"converged": true`) {
				return fmt.Errorf("%s: got %s", report, out)
			}
		}
		return nil
	})
	t.Log(c.ecpctl(0, "", "reports", "convergence"))
}

func TestEachProxyGetsOnlyItsOwn(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, "")
	ports := freePorts(t, 3)
	c.ecpctl(0, fleetYAML(t, ports[0], startUpstream(t, "one")), "apply", "-f", "-", "--fleet", "one")
	// Endpoints are the tenant's: the other fleet of the tenant names another
	// service.
	other := strings.NewReplacer("cluster_name: web", "cluster_name: api", "name: web", "name: api", "cluster: web", "cluster: api").
		Replace(fleetYAML(t, ports[1], startUpstream(t, "two")))
	c.ecpctl(0, other, "apply", "-f", "-", "--fleet", "two")
	put(t, c.urls[1]+"/api/v1/tenants/acme", `{}`)
	c.ecpctl(0, fleetYAML(t, ports[2], startUpstream(t, "acme")), "--tenant", "acme", "apply", "-f", "-", "--fleet", "one")

	c.startEnvoy(bootstrap.Options{Proxy: "p", Fleet: "one"})
	c.startEnvoy(bootstrap.Options{Proxy: "q", Fleet: "two", SotW: true})
	acme := c.startEnvoy(bootstrap.Options{Proxy: "p", Fleet: "one", Tenant: "acme"})
	for i, want := range []string{"one", "two", "acme"} {
		eventually(t, 20*time.Second, "routing of "+want, func() error {
			return routed(ports[i], "/", fmt.Sprintf("%q: %q", "upstream", want))
		})
	}
	var listeners struct {
		Statuses []struct{ Name string } `json:"listener_statuses"`
	}
	if err := get("http://"+acme.Admin+"/listeners?format=json", &listeners); err != nil || len(listeners.Statuses) != 1 {
		t.Fatalf("listeners of acme's proxy: %+v, %v", listeners, err)
	}
}

// rejectedListener passes every check but Envoy's: no filter ends the chain.
const rejectedListener = `
"@type": type.googleapis.com/envoy.config.listener.v3.Listener
name: edge
address:
  socket_address: {address: 127.0.0.1, port_value: %d}
filter_chains:
  - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: edge
          rds:
            route_config_name: edge
            config_source: {ads: {}, resource_api_version: V3}
          http_filters:
            - name: envoy.filters.http.cors
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors
`

func TestRejectedListener(t *testing.T) {
	t.Parallel()
	for _, sotw := range []bool{false, true} {
		t.Run(fmt.Sprintf("sotw=%v", sotw), func(t *testing.T) {
			c := startCluster(t, 1, "")
			port := freePorts(t, 1)[0]
			good := fleetYAML(t, port, startUpstream(t, "demo"))
			c.ecpctl(0, good, "apply", "-f", "-", "--fleet", "edge")
			c.startEnvoy(bootstrap.Options{Proxy: "p", Fleet: "edge", SotW: sotw})
			eventually(t, 20*time.Second, "routing", func() error { return routed(port, "/", "demo") })

			out := c.ecpctl(4, fmt.Sprintf(rejectedListener, port), "apply", "-f", "-", "--fleet", "edge", "--wait=20s")
			if !strings.Contains(out, "terminal filter") {
				t.Errorf("Envoy's text is missing:\n%s", out)
			}
			// A registration is committed within some 100 ms of the connect.
			eventually(t, 10*time.Second, "the rejection is shown", func() error {
				row, err := c.proxy(0, "default", "p")
				if err != nil {
					return err
				}
				if row.Sync != "rejected" || row.Types["listener"].Rejected == nil ||
					!strings.Contains(row.Types["listener"].Rejected.Detail, "terminal filter") {
					return fmt.Errorf("got %+v", row)
				}
				return nil
			})
			pushes := c.metric(0, `ecp_xds_pushes_total{type="listener"}`)
			for range 20 {
				if err := routed(port, "/", "demo"); err != nil {
					t.Fatalf("the last good configuration is not served: %v", err)
				}
				time.Sleep(50 * time.Millisecond)
			}
			if now := c.metric(0, `ecp_xds_pushes_total{type="listener"}`); now != pushes {
				t.Errorf("the rejected listener was sent again: %v, then %v pushes", pushes, now)
			}
			c.ecpctl(0, good, "apply", "-f", "-", "--fleet", "edge", "--wait=20s")
			eventually(t, 10*time.Second, "sync", func() error { return c.synced("p", 3) })
		})
	}
}

func TestFleetComesAndGoes(t *testing.T) {
	t.Parallel()
	for _, sotw := range []bool{false, true} {
		t.Run(fmt.Sprintf("sotw=%v", sotw), func(t *testing.T) {
			c := startCluster(t, 1, "")
			port := freePorts(t, 1)[0]
			c.startEnvoy(bootstrap.Options{Proxy: "p", Fleet: "later", SotW: sotw})
			eventually(t, 10*time.Second, "the proxy is known before its fleet", func() error {
				row, err := c.proxy(0, "default", "p")
				if err == nil && (row.Status != "connected" || row.Fleet != "later") {
					err = fmt.Errorf("got %+v", row)
				}
				return err
			})
			c.ecpctl(0, fleetYAML(t, port, startUpstream(t, "one")), "apply", "-f", "-", "--fleet", "later", "--wait=20s")
			eventually(t, 10*time.Second, "routing", func() error { return routed(port, "/", "one") })

			c.ecpctl(1, "", "delete", "fleet", "later")
			c.ecpctl(0, "", "delete", "fleet", "later", "--force")
			for range 20 {
				if err := routed(port, "/", "one"); err != nil {
					t.Fatalf("a proxy of a deleted fleet lost its configuration: %v", err)
				}
				time.Sleep(25 * time.Millisecond)
			}
			c.ecpctl(0, fleetYAML(t, port, startUpstream(t, "two")), "apply", "-f", "-", "--fleet", "later", "--wait=20s")
			eventually(t, 10*time.Second, "routing anew", func() error { return routed(port, "/", "two") })
		})
	}
}
