package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/deploy/bootstrap"
)

// moves is how often each case moves its route; `make soak` sets more, and
// then holds whole streams to a second a change.
func moves(t *testing.T) (count int, slowest time.Duration) {
	text := os.Getenv("ECP_SOAK_MOVES")
	if text == "" {
		return 50, 10 * time.Second
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("ECP_SOAK_MOVES=%s is no count", text)
	}
	return n, time.Second
}

// TestNoRequestFailsWhileRoutesMove: one change set after the other moves a
// route to a new cluster and removes the one before, while requests go through.
// Whole streams, and streams that are cut at random.
func TestNoRequestFailsWhileRoutesMove(t *testing.T) {
	c := startCluster(t, 3, "")
	count, slowest := moves(t)
	upstreams := [2]int{startUpstream(t, "even"), startUpstream(t, "odd")}
	for _, protocol := range []string{"delta", "sotw"} {
		for _, streams := range []string{"whole", "cut"} {
			t.Run(protocol+"-"+streams, func(t *testing.T) {
				t.Parallel()
				m := &mover{cluster: c.in(t), fleet: "move-" + protocol + "-" + streams, port: freePorts(t, 1)[0], upstreams: upstreams}
				o := bootstrap.Options{Proxy: m.fleet, Fleet: m.fleet, SotW: protocol == "sotw"}
				var cuts func() int64
				if streams == "cut" {
					address, total := startCutter(t, c.nodes)
					o.XDS, cuts = []string{address}, total
				}
				m.move(0)
				m.launch(t, "", o, nil)
				eventually(t, 30*time.Second, "routing", func() error { return routed(m.port, "/", "even") })
				load := startLoad(t, m.port)
				worst := time.Duration(0)
				for step := 1; step <= count; step++ {
					start := time.Now()
					m.move(step)
					worst = max(worst, time.Since(start))
					if err := routed(m.port, "/", []string{"even", "odd"}[step%2]); err != nil {
						t.Fatalf("step %d: %v", step, err)
					}
				}
				if streams == "whole" && worst > slowest {
					t.Errorf("a change took %s", worst)
				}
				requests, failed := load()
				if len(failed) > 0 {
					t.Errorf("%d of %d requests failed, first: %s", len(failed), requests, failed[0])
				}
				t.Logf("%d requests, %d moves, the slowest took %s", requests, count, worst)
				if cuts != nil {
					t.Logf("%d streams were cut", cuts())
					if cuts() == 0 {
						t.Error("no stream was cut")
					}
				}
			})
		}
	}
}

// mover moves the one route of a fleet.
type mover struct {
	*cluster
	fleet     string
	port      int
	upstreams [2]int
}

// move makes the cluster of a step, with its endpoints, moves the route to it,
// removes the one before, and waits until the proxy, if there is one, has all
// of that.
func (m *mover) move(step int) {
	m.t.Helper()
	api := m.urls[step%len(m.urls)] + "/api/v1/tenants/default"
	name := func(step int) string { return fmt.Sprintf("%s-%d", m.fleet, step) }
	m.must(http.MethodPut, api+"/endpoints/"+name(step), fmt.Sprintf(
		`{"cluster_name": %q, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": %d}}}}]}]}`,
		name(step), m.upstreams[step%2]))
	gone := ""
	if step == 0 {
		m.ecpctl(0, httpListener("edge", m.port, adsSource, "router.v3.Router"), "apply", "-f", "-", "--fleet", m.fleet)
	} else {
		gone = fmt.Sprintf(`{"type": "cluster", "name": %q}`, name(step-1))
	}
	change := fmt.Sprintf(movedRoute, name(step), gone)
	var made struct{ Revision uint64 }
	if err := json.Unmarshal([]byte(m.must(http.MethodPost, api+"/fleets/"+m.fleet+"/changes", change)), &made); err != nil {
		m.t.Fatal(err)
	}
	if step == 0 {
		return
	}
	eventually(m.t, 60*time.Second, "the move is done", func() error {
		var status struct{ Proxies struct{ Synced int } }
		err := get(fmt.Sprintf("%s/fleets/%s/status?revision=%d", api, m.fleet, made.Revision), &status)
		if err == nil && status.Proxies.Synced != 1 {
			err = fmt.Errorf("%+v", status)
		}
		return err
	})
	m.must(http.MethodDelete, api+"/endpoints/"+name(step-1), "")
}

// must sends a request that must be done, and returns the answer.
func (m *mover) must(method, url, body string) string {
	m.t.Helper()
	status, answer, err := send(method, url, body)
	if err != nil || status/100 != 2 {
		m.t.Fatalf("%s %s: %d %s %v", method, url, status, answer, err)
	}
	return answer
}

const movedRoute = `{"upsert": [
  {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "%[1]s", "type": "EDS", "connect_timeout": "5s",
   "eds_cluster_config": {"eds_config": {"ads": {}, "resource_api_version": "V3"}}},
  {"@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration", "name": "edge",
   "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "%[1]s"}}]}]}
 ], "delete": [%[2]s]}`

// startLoad sends requests without a pause between them until the returned
// function is called, which tells how many there were and how some failed.
func startLoad(t *testing.T, port int) func() (int64, []string) {
	var (
		group    sync.WaitGroup
		requests atomic.Int64
		mu       sync.Mutex
		failed   []string
	)
	done := make(chan struct{})
	stop := sync.OnceFunc(func() { close(done); group.Wait() })
	t.Cleanup(stop)
	for range 2 {
		group.Go(func() {
			client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-done:
					return
				case <-time.After(2 * time.Millisecond):
				}
				requests.Add(1)
				if err := loaded(client, port); err != nil {
					mu.Lock()
					failed = append(failed, time.Now().Format("15:04:05.000 ")+err.Error())
					mu.Unlock()
				}
			}
		})
	}
	return func() (int64, []string) {
		stop()
		return requests.Load(), failed
	}
}

func loaded(client *http.Client, port int) error {
	resp, err := client.Get("http://127.0.0.1:" + strconv.Itoa(port) + "/load")
	if err != nil {
		return err
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%d %s", resp.StatusCode, body)
	}
	return err
}
