package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/deploy/bootstrap"
	"github.com/org/envoy-control-plane/deploy/local"
)

// bin is the folder of the binaries under test.
var bin string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "ecp-e2e-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	bin = dir
	code := 1
	if err := local.Build(dir, "../../cmd/envoy-control-plane", "../../cmd/ecpctl"); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// cluster is a running one.
type cluster struct {
	t        *testing.T
	dir      string
	options  []local.NodeOptions
	nodes    []*local.Node
	urls     []string // of the nodes' APIs, checked
	database string
}

// startCluster starts nodes, with arguments of the test's own, and waits until
// they are ready. Its logs are printed when the test fails.
func startCluster(t *testing.T, nodes int, database string, args ...string) *cluster {
	t.Helper()
	c := newCluster(t, nodes, database, args...)
	c.start()
	return c
}

// newCluster is startCluster but for the start.
func newCluster(t *testing.T, nodes int, database string, args ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), database: database}
	ports := freePorts(t, 5*nodes)
	var join []string
	for i := range nodes {
		p := ports[5*i : 5*i+5]
		c.options = append(c.options, local.NodeOptions{
			Bin: filepath.Join(bin, "envoy-control-plane"), ID: fmt.Sprintf("node-%d", i),
			Dir:         filepath.Join(c.dir, fmt.Sprintf("node-%d", i)),
			Ports:       local.Ports{HTTP: p[0], Metrics: p[1], XDS: p[2], Raft: p[3], Gossip: p[4]},
			DatabaseURL: database, Args: args,
		})
		c.urls = append(c.urls, checked(t, "http://127.0.0.1:"+strconv.Itoa(p[0])))
		join = append(join, "127.0.0.1:"+strconv.Itoa(p[4]))
	}
	c.nodes = make([]*local.Node, nodes)
	for i := range c.options {
		if nodes > 1 {
			c.options[i].Join, c.options[i].Expect = join, nodes
		}
	}
	t.Cleanup(c.stop)
	return c
}

// start starts every node that does not run, and waits for all.
func (c *cluster) start() {
	c.t.Helper()
	for i, o := range c.options {
		if c.nodes[i] != nil {
			select {
			case <-c.nodes[i].Done():
			default:
				continue
			}
		}
		node, err := local.StartNode(o)
		if err != nil {
			c.t.Fatal(err)
		}
		c.nodes[i] = node
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	for _, n := range c.nodes {
		if err := n.WaitReady(ctx); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *cluster) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	var group sync.WaitGroup
	for _, n := range c.nodes {
		if n == nil {
			continue
		}
		group.Go(func() {
			if err := n.Stop(ctx); err != nil && !killed(err) {
				c.t.Errorf("stop %s: %v", n.ID, err)
			}
		})
	}
	group.Wait()
	if c.t.Failed() {
		for _, o := range c.options {
			log, _ := os.ReadFile(filepath.Join(o.Dir, "node.log"))
			c.t.Logf("log of %s:\n%s", o.ID, tail(log, 6000))
		}
	}
}

// killed reports whether a process ended as kill -9 ends it.
func killed(err error) bool { return strings.Contains(err.Error(), "signal: killed") }

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

func (c *cluster) servers() string {
	return strings.Join(c.urls, ",")
}

// leader returns the index of the node that leads, and waits for one.
func (c *cluster) leader() int {
	c.t.Helper()
	found := -1
	eventually(c.t, 20*time.Second, "a leader", func() error {
		for _, url := range c.urls {
			var answer struct{ Leader string }
			if get(url+"/api/v1/cluster", &answer) != nil {
				continue
			}
			for i, n := range c.nodes {
				if n.ID == answer.Leader {
					found = i
					return nil
				}
			}
		}
		return errors.New("none yet")
	})
	return found
}

// ecpctl runs the CLI against all nodes and returns its output; it fails the
// test unless the exit code is the one wanted.
func (c *cluster) ecpctl(want int, stdin string, args ...string) string {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), filepath.Join(bin, "ecpctl"), append([]string{"--server", c.servers()}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	code := 0
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		c.t.Fatal(err)
	}
	if code != want {
		c.t.Fatalf("ecpctl %s: exit code %d, want %d\n%s", strings.Join(args, " "), code, want, out)
	}
	return string(out)
}

// startEnvoy starts one that may connect to any node.
func (c *cluster) startEnvoy(o bootstrap.Options) *local.Envoy {
	c.t.Helper()
	return c.launch(c.t, "", o, nil)
}

// stopEnvoy stops an Envoy at the end of a test, and prints its log when that
// has failed.
func stopEnvoy(t *testing.T, envoy *local.Envoy, name string) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = envoy.Stop(ctx)
		if t.Failed() {
			log, _ := os.ReadFile(envoy.LogFile())
			t.Logf("log of Envoy %s:\n%s", name, tail(log, 4000))
		}
	})
}

// startUpstream serves a named upstream and returns its port.
func startUpstream(t *testing.T, name string) int {
	t.Helper()
	u, err := local.StartUpstream("127.0.0.1:0", local.UpstreamHandler(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = u.Stop(ctx)
	})
	_, port, _ := net.SplitHostPort(u.Addr)
	n, _ := strconv.Atoi(port)
	return n
}

// freePorts returns ports that nobody listened on a moment ago.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	ports, err := local.FreePorts(n)
	if err != nil {
		t.Fatal(err)
	}
	return ports
}

// fleetYAML is the quickstart with other ports: one listener, one route, one
// EDS cluster and its endpoints.
func fleetYAML(t *testing.T, listener, upstream int) string {
	t.Helper()
	var out bytes.Buffer
	files, err := filepath.Glob("../examples/quickstart/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no quickstart", err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "---\n%s\n", text)
	}
	return strings.NewReplacer("10000", strconv.Itoa(listener), "10080", strconv.Itoa(upstream)).Replace(out.String())
}

// request returns the status and body of a GET through an Envoy.
func request(port int, path string) (int, string, error) {
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), http.NoBody)
	if err != nil {
		return 0, "", err
	}
	return do(req)
}

// do returns the status and body of the answer to a request.
func do(req *http.Request) (int, string, error) {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// routed returns nil when a request through an Envoy is answered as wanted.
func routed(port int, path, want string) error {
	status, body, err := request(port, path)
	if err != nil {
		return err
	}
	if status != http.StatusOK || !strings.Contains(body, want) {
		return fmt.Errorf("%d: %s", status, body)
	}
	return nil
}

// get decodes a JSON answer.
func get(url string, into any) error {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, body)
	}
	return json.Unmarshal(body, into)
}

// eventually retries until there is no error.
func eventually(t *testing.T, within time.Duration, what string, f func() error) {
	t.Helper()
	local.Eventually(t, within, what, f)
}
