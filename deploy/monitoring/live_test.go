package monitoring_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/deploy/local"
)

// TestEveryExpressionHasSeries: with three nodes, an archive, backups and load,
// each selector of rules and dashboards finds series in a Prometheus that
// scrapes them, and each panel has something to show.
func TestEveryExpressionHasSeries(t *testing.T) {
	t.Parallel()
	backups := t.TempDir()
	c := local.TestCluster(t, local.ClusterOptions{
		Bin: nodeBinary, Nodes: 3, Dir: t.TempDir(), DatabaseURL: local.TestDatabase(t),
		Each: func(_ int, o *local.NodeOptions) { o.Args = []string{"--backup-to", backups, "--backup-every", "3s"} },
	})
	s := startPrometheus(t, liveConfig(t, c))
	startLoad(t, c)
	local.Eventually(t, 20*time.Second, "scrapes", func() error { return s.up(t.Context()) })
	// A node reports its members once it has led and followed, and refuses
	// writes as 5xx.
	admin, err := client.New(client.Options{Servers: c.URLs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(admin.Close)
	time.Sleep(5 * time.Second)
	readOnly := func(on bool) {
		if _, err := admin.SetReadOnly(t.Context(), wire.ReadOnlySet{ReadOnly: on, Message: "to be refused"}); err != nil {
			t.Fatal(err)
		}
	}
	readOnly(true)
	time.Sleep(3 * time.Second)
	readOnly(false)

	missing := wanted(t)
	local.Eventually(t, 40*time.Second, "series", func() error {
		for _, what := range slices.Sorted(maps.Keys(missing)) {
			if missing[what](s) == nil {
				delete(missing, what)
			}
		}
		if len(missing) > 0 {
			return fmt.Errorf("nothing for\n%s", strings.Join(slices.Sorted(maps.Keys(missing)), "\n"))
		}
		return nil
	})
	checkAlerts(t, s)
}

// liveConfig is the static configuration with the cluster's addresses and those of the samples.
func liveConfig(t *testing.T, c *local.Cluster) object {
	t.Helper()
	config := readConfig(t, "prometheus/static.yml")
	eachSecond(config)
	var nodes []string
	for _, o := range c.Options {
		nodes = append(nodes, local.Loopback(o.Ports.Metrics))
	}
	samples := serveSamples(t)
	jobOf(t, config, job)["static_configs"] = targets(nodes...)
	foreign := func(j object, file string) object {
		j["static_configs"], j["metrics_path"] = targets(samples), "/"+file
		return j
	}
	foreign(jobOf(t, config, "node"), "node.prom")
	foreign(jobOf(t, config, "postgres"), "postgres.prom")
	config["scrape_configs"] = append(config["scrape_configs"].([]any),
		foreign(object{"job_name": "kubelet"}, "kubelet.prom"), foreign(object{"job_name": "cadvisor"}, "cadvisor.prom"))
	return config
}

// wanted are the checks of all rules and panels, by what they look for.
func wanted(t *testing.T) map[string]func(*server) error {
	t.Helper()
	checks := map[string]func(*server) error{}
	add := func(from, expr string, whole bool) {
		for _, selector := range selectors(expr) {
			checks[from+": "+selector] = func(s *server) error { return s.seen(selector) }
		}
		checks[from+": "+expr] = func(s *server) error {
			n, err := s.ask(expr)
			if err == nil && n == 0 && whole {
				err = errors.New("empty")
			}
			return err
		}
	}
	for _, r := range rules(t) {
		add("rule "+r.Alert+r.Record, r.Expr, r.Record != "") // an alert that is silent has no series
	}
	for name, d := range dashboards(t) {
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				add("panel "+name+"/"+p.Title, filled(target.Expr), true)
			}
		}
		for _, v := range d.Templating.List {
			if inner, ok := strings.CutPrefix(v.Query, "label_values("); ok {
				series, label, _ := strings.Cut(strings.TrimSuffix(filled(inner), ")"), ", ")
				if at := strings.LastIndex(inner, ", "); at >= 0 { // the selector has commas, too
					series, label = filled(inner[:at]), strings.TrimSuffix(inner[at+2:], ")")
				}
				add("variable "+name+"/"+v.Name, "count by ("+label+") ("+series+")", true)
			}
		}
	}
	return checks
}

// checkAlerts: what the load brings about is known to Prometheus as an alert
// whose texts are whole, and nothing that a healthy cluster does not have.
func checkAlerts(t *testing.T, s *server) {
	t.Helper()
	var answer struct {
		Alerts []struct {
			Labels, Annotations map[string]string
		}
	}
	if err := s.get("/api/v1/alerts", url.Values{}, &answer); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, a := range answer.Alerts {
		name := a.Labels["alertname"]
		found[name] = true
		if text := fmt.Sprint(a.Annotations); strings.Contains(text, "error") || strings.Contains(text, "<no value>") {
			t.Errorf("%s: %s", name, text)
		}
	}
	if !found["ProxiesReject"] {
		t.Error("a proxy rejects, and no alert is pending")
	}
	delete(found, "ProxiesReject")
	for _, mine := range []string{"HighErrorRate", "ProxiesLagging", "SlowCommits", "HighLatency", "EventSubscribersCut"} {
		delete(found, mine) // the load's doing, or the machine's
	}
	if len(found) > 0 {
		t.Errorf("a healthy cluster has alerts: %v", slices.Sorted(maps.Keys(found)))
	}
	var value struct {
		Result []struct{ Value [2]json.RawMessage }
	}
	if err := s.get("/api/v1/query", url.Values{"query": {"sum(job:ecp_xds_streams:sum)"}}, &value); err != nil || len(value.Result) != 1 {
		t.Fatalf("streams: %+v, %v", value, err)
	}
	if streams, err := strconv.Unquote(string(value.Result[0].Value[1])); err != nil || streams != "2" {
		t.Errorf("%s streams, %v", streams, err)
	}
}
