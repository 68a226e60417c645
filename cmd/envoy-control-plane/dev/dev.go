package dev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/org/envoy-control-plane/deploy/bootstrap"
	"github.com/org/envoy-control-plane/deploy/examples"
	"github.com/org/envoy-control-plane/deploy/local"
)

// Options say what to run.
type Options struct {
	// Nodes, Envoys count processes.
	Nodes, Envoys int
	// Dir keeps all data and logs; Reset empties it first.
	Dir   string
	Reset bool
	// PortOffset is added to every port; node i adds i.
	PortOffset int
	// Postgres is "auto", "none" or the URL of a database.
	Postgres string
	// Bin is the program envoy-control-plane. ecpctl lies beside it.
	Bin string
	Out io.Writer
}

// Ports that are no node's.
const (
	postgresPort = 5432
	listenerPort = 10000
	upstreamPort = 10080
	adminPort    = 9901
)

const (
	fleet       = "edge"
	startBound  = 90 * time.Second
	stopBound   = 40 * time.Second
	restartWait = 3 * time.Second
)

// cluster is what Run has started.
type cluster struct {
	Options
	ecpctl   string
	database string
	upstream *local.Upstream
	postgres *local.Postgres
	nodes    []*local.Node
	envoys   []*local.Envoy
}

// Run starts everything, applies the sample fleet, says what runs where and
// keeps it running until ctx ends. A node that dies is started again.
func Run(ctx context.Context, o Options) error {
	c := &cluster{Options: o, ecpctl: filepath.Join(filepath.Dir(o.Bin), "ecpctl")}
	if err := c.check(); err != nil {
		return err
	}
	defer c.stop()
	starting, cancel := context.WithTimeout(ctx, startBound)
	defer cancel()
	for _, step := range []func(context.Context) error{
		c.startUpstream, c.startPostgres, c.startNodes, c.applySample, c.startEnvoys, c.waitRouted,
	} {
		if err := step(starting); err != nil {
			if ctx.Err() != nil {
				return nil // interrupted
			}
			return err
		}
	}
	c.printTour()
	return c.keepRunning(ctx)
}

// check finds what must be there before anything starts.
func (c *cluster) check() error {
	if c.Nodes < 1 || c.Envoys < 0 {
		return errors.New("dev: there must be a node, and no less than 0 Envoys")
	}
	if _, err := os.Stat(c.ecpctl); err != nil {
		return fmt.Errorf("dev: ecpctl is not beside %s: run `make build`", c.Bin)
	}
	if c.Envoys > 0 {
		if _, err := local.FindEnvoy(); err != nil {
			return fmt.Errorf("dev: %w", err)
		}
	}
	if c.Reset {
		if err := os.RemoveAll(c.Dir); err != nil {
			return fmt.Errorf("dev: --reset: %w", err)
		}
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	c.Dir = dir
	return os.MkdirAll(c.Dir, 0o750)
}

func (c *cluster) say(format string, args ...any) { fmt.Fprintf(c.Out, format+"\n", args...) }

func (c *cluster) port(base int) int { return base + c.PortOffset }

func loopback(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

func (c *cluster) startUpstream(context.Context) error {
	var err error
	c.upstream, err = local.StartUpstream(loopback(c.port(upstreamPort)), local.UpstreamHandler("demo"))
	return err
}

func (c *cluster) startPostgres(ctx context.Context) error {
	switch c.Postgres {
	case "none":
		return nil
	case "auto":
	default:
		c.database = c.Postgres
		return nil
	}
	c.say("starting Postgres ...")
	var err error
	c.postgres, err = local.StartPostgres(ctx, local.PostgresOptions{
		Dir: filepath.Join(c.Dir, "postgres"), Port: c.port(postgresPort),
	})
	if err != nil {
		return err
	}
	c.database = c.postgres.URL
	return nil
}

// options returns how node i is started.
func (c *cluster) options(i int) local.NodeOptions {
	o := local.NodeOptions{
		Bin: c.Bin, ID: fmt.Sprintf("node-%d", i), Ports: local.PortsAt(c.PortOffset + i), DatabaseURL: c.database,
	}
	o.Dir = filepath.Join(c.Dir, o.ID)
	if c.Nodes > 1 {
		o.Expect = c.Nodes
		for n := range c.Nodes {
			o.Join = append(o.Join, loopback(local.PortsAt(c.PortOffset+n).Gossip))
		}
	}
	return o
}

func (c *cluster) startNodes(ctx context.Context) error {
	c.say("starting %d nodes ...", c.Nodes)
	for i := range c.Nodes {
		node, err := local.StartNode(c.options(i))
		if err != nil {
			return err
		}
		c.nodes = append(c.nodes, node)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, node := range c.nodes {
		group.Go(func() error { return node.WaitReady(ctx) })
	}
	return group.Wait()
}

// servers returns the REST addresses of all nodes.
func (c *cluster) servers() string {
	urls := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		urls[i] = n.URL()
	}
	return strings.Join(urls, ",")
}

// applySample applies the quickstart, its ports moved by the offset.
func (c *cluster) applySample(ctx context.Context) error {
	text, err := examples.Quickstart()
	if err != nil {
		return err
	}
	for _, port := range []int{listenerPort, upstreamPort} {
		text = bytes.ReplaceAll(text, []byte(strconv.Itoa(port)), []byte(strconv.Itoa(c.port(port))))
	}
	c.say("applying the sample fleet %q ...", fleet)
	//nolint:gosec // our own program, beside this one
	cmd := exec.CommandContext(ctx, c.ecpctl, "--server", c.servers(), "apply", "-f", "-", "--fleet", fleet, "-m", "quickstart")
	cmd.Stdin = bytes.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("dev: apply the sample fleet: %w\n%s", err, out)
	}
	return nil
}

func (c *cluster) startEnvoys(ctx context.Context) error {
	xds := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		xds[i] = n.XDS()
	}
	for i := range c.Envoys {
		id := fmt.Sprintf("%s-%d", fleet, i)
		c.say("starting Envoy %s ...", id)
		dir := filepath.Join(c.Dir, id)
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return fmt.Errorf("dev: %w", err)
		}
		// Each begins with another node, so that they spread.
		order := append(append([]string{}, xds[i%len(xds):]...), xds[:i%len(xds)]...)
		text, err := bootstrap.Envoy(bootstrap.Options{
			Proxy: id, Fleet: fleet, XDS: order, Admin: loopback(c.port(adminPort) + i),
		})
		if err != nil {
			return err
		}
		envoy, err := local.StartEnvoy(ctx, local.EnvoyOptions{Bootstrap: text, Dir: dir})
		if err != nil {
			return err
		}
		c.envoys = append(c.envoys, envoy)
	}
	return nil
}

// routed is the URL that goes through the Envoys.
func (c *cluster) routed() string { return "http://" + loopback(c.port(listenerPort)) + "/" }

// waitRouted returns when a request goes through an Envoy to the upstream.
func (c *cluster) waitRouted(ctx context.Context) error {
	if c.Envoys == 0 {
		return nil
	}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.routed(), http.NoBody)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("dev: Envoy does not route %s: %w; see %s", c.routed(), ctx.Err(), c.envoys[0].LogFile())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// keepRunning starts nodes that die again until ctx ends.
func (c *cluster) keepRunning(ctx context.Context) error {
	died := make(chan int)
	watch := func(i int) {
		select {
		case <-c.nodes[i].Done():
		case <-ctx.Done():
			return
		}
		select {
		case died <- i:
		case <-ctx.Done():
		}
	}
	for i := range c.nodes {
		go watch(i)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case i := <-died:
			c.say("%s has ended; it starts again in %s", c.nodes[i].ID, restartWait)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(restartWait):
			}
			node, err := local.StartNode(c.options(i))
			if err != nil {
				return err
			}
			c.nodes[i] = node
			go watch(i)
		}
	}
}

// stop ends what was started: proxies first, the database last.
func (c *cluster) stop() {
	c.say("stopping ...")
	ctx, cancel := context.WithTimeout(context.Background(), stopBound)
	defer cancel()
	var group errgroup.Group
	for _, e := range c.envoys {
		group.Go(func() error { return e.Stop(ctx) })
	}
	problem := group.Wait()
	for _, n := range c.nodes {
		group.Go(func() error { return n.Stop(ctx) })
	}
	problem = errors.Join(problem, group.Wait())
	if c.postgres != nil {
		problem = errors.Join(problem, c.postgres.Stop(ctx))
	}
	if c.upstream != nil {
		problem = errors.Join(problem, c.upstream.Stop(ctx))
	}
	if problem != nil {
		c.say("while stopping: %v", problem)
	}
}
