package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

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
		c.startUpstream, c.startPostgres, c.makeKey, c.startNodes, c.applySample, c.startEnvoys, c.waitRouted,
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
