//go:build deploy

package scripts_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/deploy/bootstrap"
	"github.com/org/envoy-control-plane/deploy/examples"
	"github.com/org/envoy-control-plane/deploy/local"
)

// stage is two clusters of one archive, a real Envoy behind a front that the
// switch turns, and requests that go through it all the time.
type stage struct {
	t           *testing.T
	blue, green *local.Cluster
	front       *front
	listener    int
	failed      atomic.Int64
	sent        atomic.Int64
	post        string
}

func newStage(t *testing.T) *stage {
	s := &stage{t: t}
	database := local.TestDatabase(t)
	s.blue = startCluster(t, "blue", database, nil)
	var err error
	if s.green, err = local.NewCluster(local.ClusterOptions{
		Bin: filepath.Join(bin, "envoy-control-plane"), Nodes: 3, Name: "green", Dir: t.TempDir(), DatabaseURL: database,
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.green.Stop)
	s.front = startFront(t, s.blue.XDS())
	s.startTraffic()
	s.post = commands(t, func(what string, q url.Values) error {
		switch what {
		case "start":
			return s.startGreen(q.Get("snapshot"), q.Get("from"))
		case "blue":
			s.front.turn(s.blue.XDS())
		case "green":
			s.front.turn(s.green.XDS())
		default:
			return errors.New("no such place: " + what)
		}
		return nil
	})
	return s
}

func (s *stage) startGreen(snapshot, from string) error {
	if _, err := os.Stat(snapshot); err != nil {
		return err
	}
	s.green.Options[1].Args = []string{"--restore", snapshot, "--from-cluster", from}
	return s.green.Start(context.Background())
}

// startTraffic configures the fleet, starts its Envoy and sends requests
// through it until the test ends.
func (s *stage) startTraffic() {
	t := s.t
	upstream, err := local.StartUpstream("127.0.0.1:0", local.UpstreamHandler("up"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = upstream.Stop(context.Background()) })
	ports, err := local.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	s.listener = ports[0]
	_, port, _ := strings.Cut(upstream.Addr, ":")
	sample, err := examples.Quickstart()
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("10000", strconv.Itoa(s.listener), "10080", port).Replace(string(sample))
	ecpctl(t, s.blue, text, "apply", "-f", "-", "--fleet", "edge")
	boot, err := bootstrap.Envoy(bootstrap.Options{Proxy: "edge-0", Fleet: "edge", XDS: []string{s.front.address}})
	if err != nil {
		t.Fatal(err)
	}
	envoy, err := local.StartEnvoy(t.Context(), local.EnvoyOptions{Bootstrap: boot, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(envoy.Kill)
	local.Eventually(t, 20*time.Second, "routing", s.request)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if s.sent.Add(1); s.request() != nil {
				s.failed.Add(1)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		if failed := s.failed.Load(); failed > 0 {
			t.Errorf("%d of %d requests through Envoy failed", failed, s.sent.Load())
		}
	})
}

func (s *stage) request() error {
	resp, err := http.Get("http://" + local.Loopback(s.listener) + "/")
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s, %w", resp.Status, err)
	}
	return nil
}

func (s *stage) script(action, state string, more ...string) script {
	return script{name: "blue-green-deploy.sh", args: append([]string{
		action, "--blue", servers(s.blue), "--green", servers(s.green), "--state", state, "--watch", "4",
		"--start", strings.TrimSuffix(s.post, "/") + `/start?snapshot=$SNAPSHOT\&from=$FROM_CLUSTER`, "--switch", s.post + "$TO",
	}, more...)}
}

// readOnly reports how a cluster is.
func (s *stage) readOnly(c *local.Cluster) bool {
	s.t.Helper()
	var is wire.ReadOnly
	if err := json.Unmarshal([]byte(ecpctl(s.t, c, "", "cluster", "read-only", "-o", "json")), &is); err != nil {
		s.t.Fatal(err)
	}
	return is.ReadOnly
}

// pushed is how many responses of a cluster's nodes had resources in them. A
// settled stream that moves is sent none of those that proxies keep.
func (s *stage) pushed(c *local.Cluster) (responses float64) {
	s.t.Helper()
	for _, o := range c.Options {
		resp, err := http.Get("http://" + local.Loopback(o.Ports.Metrics) + "/metrics")
		if err != nil {
			s.t.Fatal(err)
		}
		parser := expfmt.NewTextParser(model.LegacyValidation)
		families, err := parser.TextToMetricFamilies(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			s.t.Fatal(err)
		}
		for _, m := range families["ecp_xds_pushes_total"].GetMetric() {
			responses += m.GetCounter().GetValue()
		}
	}
	return responses
}

// connected is how many streams a cluster has.
func (s *stage) connected(c *local.Cluster) int {
	s.t.Helper()
	var list wire.List[wire.Proxy]
	if err := json.Unmarshal([]byte(ecpctl(s.t, c, "", "proxies", "--status", "connected", "-o", "json")), &list); err != nil {
		s.t.Fatal(err)
	}
	return len(list.Items)
}

// TestBlueGreen: everything moves to green, nothing is sent again, no request
// fails, writes are refused meanwhile and taken by green alone afterwards.
func TestBlueGreen(t *testing.T) {
	s := newStage(t)
	state := filepath.Join(t.TempDir(), "state")
	s.script("deploy", state, "--dry-run").must(t)
	if s.readOnly(s.blue) || s.connected(s.blue) != 1 {
		t.Fatal("a dry run did something")
	}
	t.Log(s.script("deploy", state).must(t))
	if n := s.connected(s.green); n != 1 {
		t.Errorf("%d proxies are with green", n)
	}
	if n := s.pushed(s.green); n != 0 {
		t.Errorf("green sent %v responses to a proxy that had everything", n)
	}
	if !s.readOnly(s.blue) || s.readOnly(s.green) {
		t.Errorf("read-only: blue %v, green %v", s.readOnly(s.blue), s.readOnly(s.green))
	}
	ecpctl(t, s.green, "", "create", "fleet", "new")
	if out := s.script("deploy", state).must(t); !strings.Contains(out, "done already") {
		t.Errorf("a second time: %s", out)
	}
	if code, out := s.script("rollback", state).run(t); code == 0 || !strings.Contains(out, "exchanged") {
		t.Errorf("rollback after writes: %d\n%s", code, out)
	}
}

// TestBlueGreenGoesBack: a green that fails after the switch gives everything back to blue, which
// takes writes again.
func TestBlueGreenGoesBack(t *testing.T) {
	s := newStage(t)
	state := filepath.Join(t.TempDir(), "state")
	deploy := s.script("deploy", state, "--watch", "60", "--settle", "10")
	ended := make(chan string, 1)
	go func() {
		code, out := deploy.run(t)
		ended <- fmt.Sprintf("exit code %d\n%s", code, out)
	}()
	local.Eventually(t, 2*time.Minute, "the switch", func() error {
		if _, err := os.Stat(filepath.Join(state, "switched")); err != nil {
			return err
		}
		if s.connected(s.green) != 1 {
			return errors.New("the proxy is not with green yet")
		}
		return nil
	})
	s.green.Stop()
	if out := <-ended; !strings.HasPrefix(out, "exit code 1\n") || !strings.Contains(out, "all is with blue") {
		t.Errorf("the script: %s", out)
	}
	local.Eventually(t, 30*time.Second, "the proxy with blue", func() error {
		if s.connected(s.blue) != 1 {
			return errors.New("it is not")
		}
		return nil
	})
	ecpctl(t, s.blue, "", "create", "fleet", "new")
}
