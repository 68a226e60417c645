package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/deploy/bootstrap"
)

// TestDrain: a node hands its Envoys over while requests go through them; none
// fails, nothing is sent again, and no Envoy is long without a stream.
func TestDrain(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, "")
	ports, upstream := freePorts(t, 4), startUpstream(t, "demo")
	admins := map[string]string{}
	for i, port := range ports {
		fleet := fmt.Sprintf("fleet-%d", i)
		c.ecpctl(0, fleetYAML(t, port, upstream), "apply", "-f", "-", "--fleet", fleet)
		admins[fleet] = c.startEnvoy(bootstrap.Options{Proxy: fleet, Fleet: fleet, SotW: i%2 == 1}).Admin
	}
	eventually(t, 30*time.Second, "routing", func() error { return c.route(ports, "demo") })
	eventually(t, 20*time.Second, "all are registered", func() error { return c.streams(4, "") })
	name := c.servedBy(t, "fleet-0")
	c.ecpctl(0, "", "cluster", "transfer", name)
	leader := c.leader()
	if c.nodes[leader].ID != name {
		t.Fatalf("%s leads, not %s", c.nodes[leader].ID, name)
	}

	pushed := func() (sum float64) {
		for i := range c.nodes {
			for _, typ := range []string{"cluster", "endpoints", "listener", "route"} {
				sum += c.metric(i, `ecp_xds_pushes_total{type="`+typ+`"}`)
			}
		}
		return sum
	}
	before := pushed()
	stop, gaps := make(chan struct{}), make(chan string, 100)
	var watching sync.WaitGroup
	for fleet, admin := range admins {
		watching.Go(func() { gaps <- longestGap(fleet, admin, stop) })
	}
	watching.Go(func() {
		for range 1 << 20 {
			if err := c.route(ports, "demo"); err != nil {
				gaps <- "failed: " + err.Error()
			}
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	out := c.ecpctl(0, "", "cluster", "drain", name, "--within", "1s", "--wait")
	if !strings.Contains(out, "has no streams") {
		t.Errorf("printed:\n%s", out)
	}
	eventually(t, 20*time.Second, "the others have all", func() error { return c.streams(4, name) })
	close(stop)
	watching.Wait()
	close(gaps)
	for what := range gaps {
		if strings.HasPrefix(what, "failed") {
			t.Error(what)
		}
		t.Log(what)
	}
	if now := pushed(); now != before {
		t.Errorf("%v pushes before, %v after", before, now)
	}
	if now := c.leader(); now == leader {
		t.Error("the drained node still leads")
	}
	resp, err := http.Get(c.urls[leader] + "/ready")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(text), "draining") {
		t.Errorf("%s: %s", resp.Status, text)
	}
	if out := c.ecpctl(0, "", "cluster"); !strings.Contains(out, "draining") {
		t.Errorf("printed:\n%s", out)
	}
	c.ecpctl(0, "", "cluster", "undrain", name)
	eventually(t, 10*time.Second, "it is ready again", func() error { return get(c.urls[leader]+"/ready", &struct{}{}) })
}

// servedBy returns the node of a proxy's stream.
func (c *cluster) servedBy(t *testing.T, id string) string {
	t.Helper()
	var row struct{ Streams []struct{ Node string } }
	if err := get(c.urls[0]+"/api/v1/tenants/default/proxies/"+id, &row); err != nil || len(row.Streams) != 1 {
		t.Fatal(row, err)
	}
	return row.Streams[0].Node
}

// streams returns nil when so many proxies have a stream, and none of them on
// a node.
func (c *cluster) streams(want int, without string) error {
	var page struct {
		Items []struct {
			ID, Status, Sync string
			Streams          []struct{ Node string }
		}
	}
	if err := get(c.urls[0]+"/api/v1/tenants/default/proxies", &page); err != nil {
		return err
	}
	n := 0
	for _, p := range page.Items {
		if p.Sync != "synced" {
			return fmt.Errorf("%s is %s", p.ID, p.Sync)
		}
		for _, s := range p.Streams {
			if s.Node == without {
				return errors.New(p.ID + " is still there")
			}
			n++
		}
	}
	if n != want {
		return fmt.Errorf("%d streams", n)
	}
	return nil
}

// longestGap watches an Envoy and says how long it was without a stream.
func longestGap(fleet, admin string, stop chan struct{}) string {
	var longest time.Duration
	since := time.Now()
	for {
		select {
		case <-stop:
			what := fmt.Sprintf("%s: without a stream for %s", fleet, longest.Round(time.Millisecond))
			if longest > 3*time.Second {
				return "failed: " + what
			}
			return what
		case <-time.After(5 * time.Millisecond):
		}
		resp, err := http.Get("http://" + admin + "/stats?filter=^control_plane.connected_state")
		if err != nil {
			return "failed: " + err.Error()
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if strings.Contains(string(text), "connected_state: 1") {
			since = time.Now()
		}
		longest = max(longest, time.Since(since))
	}
}
