package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/deploy/bootstrap"
	"github.com/org/envoy-control-plane/deploy/local"
)

// TestEveryEnvoy takes every pinned version through the life of a proxy, in
// both protocols, aggregated and with a stream for each service.
func TestEveryEnvoy(t *testing.T) {
	c := startCluster(t, 3, "")
	upstreams := [2]int{startUpstream(t, "one"), startUpstream(t, "two")}
	together := make(chan struct{}, 4) // Envoys that run at a time
	for _, envoy := range envoys(t) {
		for _, sotw := range []bool{false, true} {
			for _, services := range []bool{false, true} {
				name := envoy.version + map[bool]string{false: "-delta", true: "-sotw"}[sotw] + map[bool]string{false: "-ads", true: "-services"}[services]
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					together <- struct{}{}
					defer func() { <-together }()
					l := &life{cluster: c.in(t), fleet: "of-" + name, source: adsSource, ports: freePorts(t, 3), upstreams: upstreams}
					if services {
						l.source = ownSource(sotw)
					}
					l.live(envoy.path, bootstrap.Options{Proxy: l.fleet, Fleet: l.fleet, SotW: sotw, Services: services})
				})
			}
		}
	}
}

// life is that of one proxy.
type life struct {
	*cluster
	fleet, source string
	ports         []int // of its listener, of one that goes, of one that it rejects
	upstreams     [2]int
}

func (l *life) live(bin string, o bootstrap.Options) {
	t, say := l.t, func(path, body string) string {
		return fmt.Sprintf("{match: {prefix: %s}, direct_response: {status: 200, body: {inline_string: %s}}},", path, body)
	}
	apply := func(want int, parts ...string) string {
		t.Helper()
		return l.ecpctl(want, strings.Join(parts, ""), "apply", "-f", "-", "--fleet", l.fleet, "--prune", "--wait=30s")
	}
	routes := func(port int, path, want string) {
		t.Helper()
		eventually(t, 30*time.Second, path, func() error { return routed(port, path, want) })
	}
	good := httpListener("edge", l.ports[0], l.source, "router.v3.Router")
	side := httpListener("side", l.ports[1], l.source, "router.v3.Router")
	clusters := l.clusters()

	detour := startDetour(t, l.nodes)
	o.XDS = []string{detour.address}
	envoy := l.launch(t, bin, o, nil)
	apply(0, good, side, l.routes(""), clusters, l.endpoints(0))
	routes(l.ports[0], "/", "one")
	routes(l.ports[1], "/", "one")

	apply(0, good, side, l.routes(say("/v2", "second")), clusters)
	routes(l.ports[0], "/v2", "second")
	apply(0, l.endpoints(1), good, side, l.routes(say("/v2", "second")), clusters)
	routes(l.ports[0], "/", "two")

	// Envoy wants a last filter that ends the chain; the rest gets through.
	out := apply(4, good, side, httpListener("bad", l.ports[2], l.source, "cors.v3.Cors"), l.routes(say("/v3", "third")), clusters)
	if !strings.Contains(out, "terminal filter") {
		t.Errorf("Envoy's text is missing:\n%s", out)
	}
	routes(l.ports[0], "/v3", "third")
	routes(l.ports[1], "/", "two")
	apply(0, good, side, l.routes(say("/v3", "third")), clusters)

	l.moves(envoy, detour)
	routes(l.ports[0], "/v3", "third")

	apply(0, good, l.routes(say("/v3", "third")), clusters)
	eventually(t, 30*time.Second, "the second listener goes", func() error {
		if _, _, err := request(l.ports[1], "/"); err == nil {
			return errors.New("it answers")
		}
		return nil
	})
	routes(l.ports[0], "/", "two")
}

// moves cuts the proxy's connection to its node: it has all streams on
// another one then, and was sent nothing.
func (l *life) moves(envoy *local.Envoy, d *detour) {
	t := l.t
	streams := func() (map[string]int, int, error) {
		var row struct {
			Sync    string
			Streams []struct{ Node string }
		}
		if err := get(l.urls[0]+"/api/v1/tenants/default/proxies/"+l.fleet, &row); err != nil {
			return nil, 0, err
		}
		nodes := map[string]int{}
		for _, s := range row.Streams {
			nodes[s.Node]++
		}
		if row.Sync != "synced" {
			return nil, 0, fmt.Errorf("it is %s", row.Sync)
		}
		return nodes, len(row.Streams), nil
	}
	var before map[string]int
	var count int
	eventually(t, 30*time.Second, "the proxy is synced", func() (err error) {
		before, count, err = streams()
		return err
	})
	updates := l.updates(envoy)
	d.turn()
	eventually(t, 30*time.Second, "all streams are elsewhere", func() error {
		after, n, err := streams()
		if err != nil {
			return err
		}
		for node := range after {
			if before[node] > 0 {
				return fmt.Errorf("%v, then %v", before, after)
			}
		}
		if n < count { // the last ones may have been told of only since
			return fmt.Errorf("%d streams, then %d", count, n)
		}
		return nil
	})
	if now := l.updates(envoy); !maps.Equal(now, updates) {
		t.Errorf("something was sent again: %v, then %v", updates, now)
	}
}

// updates are Envoy's counters of responses that it took or rejected.
func (l *life) updates(envoy *local.Envoy) map[string]int {
	l.t.Helper()
	resp, err := http.Get("http://" + envoy.Admin + "/stats?format=json&filter=update_(success|rejected)$")
	if err != nil {
		l.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	var stats struct {
		Stats []struct {
			Name  string
			Value int
		}
	}
	if err := json.Unmarshal(body, &stats); err != nil {
		l.t.Fatal(err)
	}
	out := map[string]int{}
	for _, s := range stats.Stats {
		out[s.Name] = s.Value
	}
	if out["listener_manager.lds.update_success"] == 0 {
		l.t.Errorf("Envoy counts no updates: %s", body)
	}
	return out
}

func (l *life) routes(first string) string {
	return fmt.Sprintf(`---
"@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
name: edge
virtual_hosts:
  - {name: all, domains: ["*"], routes: [%s {match: {prefix: /}, route: {cluster: "%s"}}]}
`, first, l.fleet)
}

func (l *life) clusters() string {
	return fmt.Sprintf(`---
"@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
name: %s
type: EDS
eds_cluster_config: {eds_config: %s}
`, l.fleet, l.source)
}

func (l *life) endpoints(upstream int) string {
	return grpcEndpoints(l.fleet, strconv.Itoa(l.upstreams[upstream]))
}
