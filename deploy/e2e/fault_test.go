package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/deploy/bootstrap"
	"github.com/org/envoy-control-plane/deploy/local"
)

// send sends a body and returns the status and answer.
func send(method, url, body string) (int, string, error) {
	req, err := http.NewRequest(method, url, io.NopCloser(strings.NewReader(body)))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(answer), err
}

func put(t *testing.T, url, body string) {
	t.Helper()
	status, answer, err := send(http.MethodPut, url, body)
	if err != nil || status/100 != 2 {
		t.Fatalf("PUT %s: %d %s %v", url, status, answer, err)
	}
}

// metric returns a sample of a node's metrics, 0 when it is not there.
func (c *cluster) metric(node int, name string) float64 {
	c.t.Helper()
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", c.nodes[node].Ports.Metrics))
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				c.t.Fatal(err)
			}
			return v
		}
	}
	return 0
}

// writer puts labels on a fleet, one number after the other, and notes the
// last one that was acknowledged.
type writer struct {
	c    *cluster
	last atomic.Int64
}

// write tries once, on one node.
func (w *writer) write(node int) error {
	n := w.last.Load() + 1
	status, answer, err := send(http.MethodPut, w.c.urls[node]+"/api/v1/tenants/default/fleets/edge",
		fmt.Sprintf(`{"labels": {"n": "%d"}}`, n))
	if err != nil {
		return err
	}
	if status/100 != 2 {
		return fmt.Errorf("%d: %s", status, answer)
	}
	w.last.Store(n)
	return nil
}

// check wants the last acknowledged label, or the one that was being written,
// on every node.
func (w *writer) check() error {
	for i, n := range w.c.nodes {
		var fleet struct{ Labels map[string]string }
		if err := get(w.c.urls[i]+"/api/v1/tenants/default/fleets/edge", &fleet); err != nil {
			return err
		}
		got, _ := strconv.ParseInt(fleet.Labels["n"], 10, 64)
		if last := w.last.Load(); got != last && got != last+1 {
			return fmt.Errorf("%s has %d, %d was acknowledged", n.ID, got, last)
		}
	}
	return nil
}

func TestNodesAreKilled(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, local.TestDatabase(t))
	port := freePorts(t, 1)[0]
	c.ecpctl(0, fleetYAML(t, port, startUpstream(t, "demo")), "apply", "-f", "-", "--fleet", "edge")
	c.startEnvoy(bootstrap.Options{Proxy: "p", Fleet: "edge"})
	eventually(t, 20*time.Second, "routing", func() error { return routed(port, "/", "demo") })
	w := &writer{c: c}
	for i := range 30 {
		if err := w.write(i % 3); err != nil {
			t.Fatal(err)
		}
	}

	// Envoy answers every request while the leader dies and comes back.
	ctx, cancel := context.WithCancel(t.Context())
	var served, failed atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := routed(port, "/", "demo"); err != nil {
				t.Errorf("a request failed: %v", err)
				failed.Add(1)
			}
			served.Add(1)
			time.Sleep(5 * time.Millisecond)
		}
	}()
	leader := c.leader()
	start := time.Now()
	c.nodes[leader].Kill()
	other := (leader + 1) % 3
	eventually(t, 10*time.Second, "a write after the leader's death", func() error { return w.write(other) })
	t.Logf("the next write was acknowledged %s after the leader's death", time.Since(start))
	c.start()
	eventually(t, 20*time.Second, "the killed node catches up", w.check)
	cancel()
	<-done
	t.Logf("%d requests through Envoy, %d failed", served.Load(), failed.Load())

	// All at once: what was acknowledged is there after the restart.
	for i := range 20 {
		if err := w.write(i % 3); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range c.nodes {
		n.Kill()
	}
	for _, n := range c.nodes {
		<-n.Done()
	}
	c.start()
	eventually(t, 20*time.Second, "all nodes agree", w.check)
	eventually(t, 20*time.Second, "writes go on", func() error { return w.write(0) })
	c.archivedOnce()
}

// archivedOnce wants every event of the state in Postgres, each once.
func (c *cluster) archivedOnce() {
	c.t.Helper()
	eventually(c.t, 30*time.Second, "the archive is drained", func() error {
		return local.ArchivedOnce(c.t.Context(), c.urls[0], c.database)
	})
}

func TestSingleNodeWithoutDatabase(t *testing.T) {
	t.Parallel()
	start := time.Now()
	c := startCluster(t, 1, "")
	t.Logf("ready after %s, %.1f MB resident", time.Since(start), c.metric(0, "process_resident_memory_bytes")/1e6)
	put(t, c.urls[0]+"/api/v1/tenants/default/fleets/edge", `{}`)
	var page struct {
		Source string
		Items  []struct{ Kind string }
	}
	if err := get(c.urls[0]+"/api/v1/tenants/default/history", &page); err != nil {
		t.Fatal(err)
	}
	if page.Source != "memory" || len(page.Items) != 1 || page.Items[0].Kind != "fleet_put" {
		t.Fatalf("history %+v", page)
	}
}
