package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/deploy/bootstrap"
)

// TestRejectionIsShownAndRetried: an Envoy cannot listen on a port that is
// taken. Its configuration says so, from whichever node is asked; once the
// port is free a retry on request mends it.
func TestRejectionIsShownAndRetried(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, "")
	port := freePorts(t, 1)[0]
	taken, err := net.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c.ecpctl(0, fleetYAML(t, port, startUpstream(t, "demo")), "apply", "-f", "-", "--fleet", "edge")
	c.startEnvoy(bootstrap.Options{Proxy: "p", Fleet: "edge"})

	type resource struct {
		Name, Status, Should, Acked string
		Rejected                    struct{ Version, Detail string }
		Resource                    map[string]any
	}
	config := func(node int) (map[string]resource, error) {
		var out struct {
			Streams []struct {
				Types []struct {
					Type      string
					Resources []resource
				}
			}
		}
		if err := get(c.urls[node]+"/api/v1/tenants/default/proxies/p/config", &out); err != nil {
			return nil, err
		}
		all := map[string]resource{}
		for _, s := range out.Streams {
			for _, x := range s.Types {
				for _, r := range x.Resources {
					all[x.Type] = r // there is one of each
				}
			}
		}
		return all, nil
	}
	// status wants the listener's status from every node.
	status := func(want string) map[string]resource {
		t.Helper()
		var all map[string]resource
		for i := range c.nodes {
			eventually(t, 20*time.Second, "the listener is "+want, func() (err error) {
				if all, err = config(i); err == nil && all["listener"].Status != want {
					err = fmt.Errorf("it is %+v", all["listener"])
				}
				return err
			})
		}
		return all
	}
	got := status("rejected")
	l := got["listener"]
	if !strings.Contains(l.Rejected.Detail, "bind") || l.Rejected.Version != l.Should || l.Acked != "" || l.Resource["address"] == nil {
		t.Errorf("listener: %+v", l)
	}
	for _, typ := range []string{"cluster", "endpoints"} {
		if r := got[typ]; r.Status != "synced" || r.Acked != r.Should || r.Should == "" || r.Resource["@type"] == nil {
			t.Errorf("%s: %+v", typ, r)
		}
	}
	out := c.ecpctl(0, "", "proxies", "config", "p")
	for _, want := range []string{"TYPE ", "rejected", "synced", "Envoy rejects listener: "} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}

	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	if out := c.ecpctl(0, "", "proxies", "retry", "p"); !strings.Contains(out, "1 rejected response sent again") {
		t.Fatalf("retry: %s", out)
	}
	if l := status("synced")["listener"]; l.Acked != l.Should {
		t.Errorf("listener: %+v", l)
	}
	eventually(t, 10*time.Second, "routing", func() error { return routed(port, "/", "demo") })
}
