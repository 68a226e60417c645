package e2e

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/deploy/bootstrap"
)

// A listener with a time to live stays in a real Envoy as long as the control
// plane does, and goes with it; one without stays.
func TestListenerOutlivesNotItsTime(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, "")
	type fleet struct {
		name         string
		brief, stays int // ports
	}
	const ttl = 2 * time.Second
	var fleets []fleet
	for _, sotw := range []bool{false, true} {
		ports := freePorts(t, 2)
		f := fleet{map[bool]string{false: "delta", true: "sotw"}[sotw], ports[0], ports[1]}
		listener := func(name string, port int) string {
			return fmt.Sprintf(`{"@type": type.googleapis.com/envoy.config.listener.v3.Listener, name: %s,
  address: {socket_address: {address: 127.0.0.1, port_value: %d}},
  filter_chains: [{filters: [{name: say, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config,
    response: {inline_string: here}}}]}]}`, name, port)
		}
		c.ecpctl(0, fmt.Sprintf("\"@type\": type.googleapis.com/envoy.service.discovery.v3.Resource\nname: brief\nttl: %v\nresource: %s\n---\n%s\n",
			ttl, listener("brief", f.brief), listener("stays", f.stays)), "apply", "-f", "-", "--fleet", f.name)
		c.startEnvoy(bootstrap.Options{Proxy: f.name, Fleet: f.name, SotW: sotw})
		fleets = append(fleets, f)
	}
	for _, f := range fleets {
		eventually(t, 20*time.Second, f.name+" listens", func() error { return errors.Join(said(f.brief, "here"), said(f.stays, "here")) })
	}
	for began := time.Now(); time.Since(began) < 3*ttl; time.Sleep(100 * time.Millisecond) {
		for _, f := range fleets {
			if err := said(f.brief, "here"); err != nil {
				t.Fatalf("%s, while the control plane is there: %v", f.name, err)
			}
		}
	}
	c.kill(0)
	for _, f := range fleets {
		eventually(t, 10*ttl, f.name+" has lost what was not renewed", func() error {
			if said(f.brief, "here") == nil {
				return errors.New("it is there")
			}
			return nil
		})
		if err := said(f.stays, "here"); err != nil {
			t.Errorf("%s lost more: %v", f.name, err)
		}
	}
}
