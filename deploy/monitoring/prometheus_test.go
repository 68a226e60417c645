package monitoring_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/org/envoy-control-plane/deploy/local"
)

// job is what the scrape configurations call a cluster.
const job = "envoy-control-plane"

type object = map[string]any

func remarshal(t *testing.T, from, into any) {
	t.Helper()
	raw, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(raw, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// server is a running Prometheus.
type server struct {
	t   *testing.T
	url string
}

// startPrometheus runs one with a configuration, which it must find right.
func startPrometheus(t *testing.T, config object) *server {
	t.Helper()
	raw, err := yaml.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, promtool, "check", "config", file)
	ports, err := local.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	address := local.Loopback(ports[0])
	p, err := local.StartProgram(t.Context(), local.ProgramOptions{
		Path: prometheus, Dir: dir, Ready: local.Answers("http://" + address + "/-/ready"),
		Args: []string{"--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + address},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return &server{t: t, url: "http://" + address}
}

// get decodes the data of an answer of the HTTP API.
func (s *server) get(path string, query url.Values, into any) error {
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+path+"?"+query.Encode(), http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s", answer.Error)
	}
	return json.Unmarshal(answer.Data, into)
}

// ask evaluates an expression now and returns how many series it has.
func (s *server) ask(expr string) (int, error) {
	var answer struct{ Result []json.RawMessage }
	err := s.get("/api/v1/query", url.Values{"query": {expr}}, &answer)
	return len(answer.Result), err
}

// seen reports whether there was a sample of a selector since the start.
func (s *server) seen(selector string) error {
	n, err := s.ask("last_over_time(" + selector + "[10m])")
	if err == nil && n == 0 {
		err = fmt.Errorf("no series")
	}
	return err
}

// serveSamples serves what foreign exporters would.
func serveSamples(t *testing.T) (address string) {
	t.Helper()
	files := http.FileServer(http.Dir("samples"))
	samples := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(samples.Close)
	return strings.TrimPrefix(samples.URL, "http://")
}

// readConfig is one of the scrape configurations with the rules of this folder
// and nobody to send alerts to.
func readConfig(t *testing.T, path string) object {
	t.Helper()
	config := object{}
	readYAML(t, path, &config)
	rules, err := filepath.Abs("rules/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(config["rule_files"]); got != "[/etc/prometheus/rules/*.yaml]" {
		t.Errorf("%s takes its rules from %s", path, got)
	}
	config["rule_files"] = []any{rules}
	delete(config, "alerting")
	return config
}

// eachSecond has everything scraped and evaluated once a second.
func eachSecond(config object) {
	config["global"] = object{"scrape_interval": "1s", "evaluation_interval": "1s"}
}

// targets are a static configuration.
func targets(addresses ...string) []any {
	return []any{object{"targets": addresses}}
}

// jobOf returns a job of a configuration.
func jobOf(t *testing.T, config object, name string) object {
	t.Helper()
	for _, j := range config["scrape_configs"].([]any) {
		if j := j.(object); j["job_name"] == name {
			return j
		}
	}
	t.Fatalf("there is no job %s", name)
	return nil
}

// up waits until all targets answer.
func (s *server) up(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var answer struct {
		ActiveTargets []struct{ Health, LastError, ScrapeURL string }
	}
	if err := s.get("/api/v1/targets", nil, &answer); err != nil {
		return err
	}
	for _, target := range answer.ActiveTargets {
		if target.Health != "up" {
			return fmt.Errorf("%s: %s %s", target.ScrapeURL, target.Health, target.LastError)
		}
	}
	return nil
}
