package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/deploy/bootstrap"
	"github.com/org/envoy-control-plane/deploy/local"
)

// All nodes are killed, and one that has missed the last change is started
// alone: it configures an Envoy that has nothing, those that have the change
// keep it, and all have it when the others are back.
func TestOneNodeIsLeft(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, "")
	before, after := startUpstream(t, "before"), startUpstream(t, "after")
	fleets := []string{"delta", "sotw", "late"}
	ports := freePorts(t, 3)
	for i, fleet := range fleets {
		c.ecpctl(0, fleetYAML(t, ports[i], before), "apply", "-f", "-", "--fleet", fleet)
	}
	c.startEnvoy(bootstrap.Options{Proxy: "delta", Fleet: "delta"})
	c.startEnvoy(bootstrap.Options{Proxy: "sotw", Fleet: "sotw", SotW: true})
	eventually(t, 20*time.Second, "routing", func() error { return c.route(ports[:2], "before") })
	alone := (c.leader() + 1) % 3
	eventually(t, 10*time.Second, "the disk knows what is committed", func() error {
		var status struct{ Index float64 }
		if err := get(c.urls[alone]+"/api/v1/cluster", &status); err != nil {
			return err
		}
		if at := c.metric(alone, "ecp_raft_commit_index"); at <= status.Index {
			return fmt.Errorf("nothing follows index %.0f", status.Index)
		}
		return nil
	})

	c.kill(alone)
	for i, fleet := range fleets {
		changed := strings.ReplaceAll(fleetYAML(t, ports[i], after), "timeout: 15s", "timeout: 16s")
		c.ecpctl(0, changed, "apply", "-f", "-", "--fleet", fleet)
	}
	eventually(t, 20*time.Second, "the change", func() error { return c.route(ports[:2], "after") })
	c.kill((alone+1)%3, (alone+2)%3)

	o := c.options[alone]
	o.Args = append(o.Args, "--stale-after", "1s")
	node, err := local.StartNode(o)
	if err != nil {
		t.Fatal(err)
	}
	c.nodes[alone] = node
	c.startEnvoy(bootstrap.Options{Proxy: "late", Fleet: "late"})
	eventually(t, 30*time.Second, "the Envoy that has nothing is configured", func() error { return c.route(ports[2:], "before") })
	eventually(t, 30*time.Second, "the others are connected", func() error {
		d, s := c.metric(alone, `ecp_xds_streams{protocol="delta"}`), c.metric(alone, `ecp_xds_streams{protocol="sotw"}`)
		if d < 2 || s < 1 {
			return fmt.Errorf("%.0f and %.0f streams", d, s)
		}
		return nil
	})
	for range 20 {
		if err := c.route(ports[:2], "after"); err != nil {
			t.Fatalf("an Envoy lost what it had: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	status, said, err := send(http.MethodGet, node.URL()+"/ready", "")
	if err != nil || status != http.StatusServiceUnavailable || !strings.Contains(said, "may be stale") {
		t.Errorf("/ready: %d %s %v", status, said, err)
	}
	if c.metric(alone, "ecp_xds_stale") != 1 {
		t.Error("the metric does not say stale")
	}
	if out := c.ecpctl(0, "", "cluster"); !strings.Contains(out, "stale") {
		t.Errorf("ecpctl cluster:\n%s", out)
	}

	c.start()
	eventually(t, 30*time.Second, "all have the change", func() error { return c.route(ports, "after") })
	if c.metric(alone, "ecp_xds_stale") != 0 {
		t.Error("still stale")
	}
	for _, fleet := range fleets {
		eventually(t, 20*time.Second, fleet+" is in step", func() error {
			var status struct{ Converged bool }
			if err := get(c.urls[alone]+"/api/v1/tenants/default/fleets/"+fleet+"/status", &status); err != nil || status.Converged {
				return err
			}
			return errors.New("it has not converged")
		})
	}
}

// route returns nil when the Envoys on all ports answer as wanted.
func (c *cluster) route(ports []int, want string) error {
	for _, port := range ports {
		if err := routed(port, "/", want); err != nil {
			return err
		}
	}
	return nil
}

// kill ends nodes as a power failure does.
func (c *cluster) kill(nodes ...int) {
	for _, i := range nodes {
		c.nodes[i].Kill()
	}
	for _, i := range nodes {
		<-c.nodes[i].Done()
	}
}
