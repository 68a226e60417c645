package e2e

import (
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/deploy/bootstrap"
	"github.com/org/envoy-control-plane/deploy/local"
)

// report returns all rows of a report of metrics about the last hour.
func (c *cluster) report(args ...string) []wire.ReportedMetric {
	c.t.Helper()
	var out wire.Report[wire.ReportedMetric]
	text := c.ecpctl(0, "", append([]string{"reports", "metrics", "--limit", "0", "-o", "json"}, args...)...)
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		c.t.Fatalf("%v:\n%s", err, text)
	}
	return out.Items
}

// total is what a counter went up by, and what a histogram has observed.
func total(rows []wire.ReportedMetric) (value float64, count int64) {
	for _, r := range rows {
		value, count = value+r.Value, count+r.Count
	}
	return value, count
}

// Each version of Envoy sends what it measures, and the reports say what it did:
// as many requests as were made, how long they took, of which cluster.
func TestMetricsOfEnvoys(t *testing.T) {
	t.Parallel()
	database := local.TestDatabase(t)
	c := startCluster(t, 1, database, "--proxy-metrics-interval", "10s")
	upstream := startUpstream(t, "metrics")
	for i, envoy := range oldestAndNewest(t) {
		t.Run(envoy.version, func(t *testing.T) {
			c := c.in(t)
			port := freePorts(t, 1)[0]
			fleet := fmt.Sprintf("metrics-%d", i)
			c.ecpctl(0, fleetYAML(t, port, upstream), "apply", "-f", "-", "--fleet", fleet)
			c.launch(t, envoy.path, bootstrap.Options{Proxy: fleet, Fleet: fleet, MetricsInterval: time.Second}, nil)
			eventually(t, 20*time.Second, "it serves", func() error {
				status, _, err := request(port, "/")
				if err == nil && status != 200 {
					err = fmt.Errorf("status %d", status)
				}
				return err
			})
			eventually(t, 20*time.Second, "it tells", func() error {
				if n := c.metric(0, "ecp_proxy_metrics_streams"); n != float64(1) {
					return fmt.Errorf("%g streams", n)
				}
				return nil
			})
			const requests = 50
			for range requests {
				if status, _, err := request(port, "/"); status != 200 {
					t.Fatal(status, err)
				}
			}
			eventually(t, 40*time.Second, "all requests are reported", func() error {
				rows := c.report("http.downstream_rq_xx", "--fleet", fleet, "--labels", "envoy.http_conn_manager_prefix=edge,envoy.response_code_class=2")
				// Those of before the first flush do not count.
				if up, _ := total(rows); up < requests || up > requests+20 {
					return fmt.Errorf("%g of %d: %+v", up, requests, rows)
				}
				return nil
			})
			rows := c.report("cluster.upstream_rq_time", "--fleet", fleet, "--labels", "envoy.cluster_name=web")
			if _, n := total(rows); n < requests || rows[0].P99 == nil || *rows[0].P50 > *rows[0].P99 || rows[0].Kind != "histogram" {
				t.Errorf("%d requests took %+v", n, rows)
			}
			rows = c.report("server.live", "--proxy", fleet, "--group", "proxy")
			if len(rows) == 0 || rows[0].Value != 1 || rows[0].Kind != "gauge" || rows[0].Proxy != fleet {
				t.Errorf("it lives: %+v", rows)
			}
			if rows := c.report("server.concurrency"); len(rows) != 0 { // not on the list
				t.Errorf("kept: %+v", rows)
			}
		})
	}
	for _, reason := range []string{"too_large", "invalid", "series", "queue_full", "database"} {
		if n := c.metric(0, `ecp_proxy_metrics_dropped_total{reason="`+reason+`"}`); n != 0 {
			t.Errorf("%g dropped for %s", n, reason)
		}
	}
}

// Nodes that go take nothing with them but what came since the last flush, and no
// request is counted twice, whichever nodes the metrics come to.
func TestMetricsMoveBetweenNodes(t *testing.T) {
	t.Parallel()
	database := local.TestDatabase(t)
	c := startCluster(t, 3, database, "--proxy-metrics-interval", "10s")
	port, upstream := freePorts(t, 1)[0], startUpstream(t, "moves")
	c.ecpctl(0, fleetYAML(t, port, upstream), "apply", "-f", "-", "--fleet", "edge")
	c.startEnvoy(bootstrap.Options{Proxy: "p1", Fleet: "edge", MetricsInterval: time.Second})
	eventually(t, 20*time.Second, "it serves", func() error { _, _, err := request(port, "/"); return err })
	var served atomic.Int64
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
			if status, _, err := request(port, "/"); err == nil && status == 200 {
				served.Add(1)
			}
		}
	}()
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	written := func(nodes int) {
		t.Helper()
		eventually(t, 40*time.Second, "rows of the next node", func() error {
			var n int
			err := conn.QueryRow(t.Context(), "SELECT count(DISTINCT node) FROM proxy_metrics WHERE proxy = 'p1'").Scan(&n)
			if err == nil && n < nodes {
				err = fmt.Errorf("%d nodes have written", n)
			}
			return err
		})
	}
	for moves := 1; moves <= 2; moves++ {
		written(moves)
		for i, n := range c.nodes {
			if c.metric(i, "ecp_proxy_metrics_streams") > 0 {
				c.ecpctl(0, "", "cluster", "drain", n.ID)
				defer c.ecpctl(0, "", "cluster", "undrain", n.ID)
				break
			}
		}
	}
	written(3)
	close(stop)
	<-done
	time.Sleep(12 * time.Second) // an interval and a flush
	up, _ := total(c.report("http.downstream_rq_xx", "--fleet", "edge", "--labels", "envoy.http_conn_manager_prefix=edge,envoy.response_code_class=2"))
	all := float64(served.Load())
	t.Logf("%g of %g requests are reported", up, all)
	if up > all+20 || up < all/2 {
		t.Errorf("%g requests are reported of %g", up, all)
	}
}
