package dev

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
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

func (c *cluster) startUpstream(context.Context) error {
	var err error
	c.upstream, err = local.StartUpstream(local.Loopback(c.port(upstreamPort)), local.UpstreamHandler("demo"))
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

func (c *cluster) keyFile() string { return filepath.Join(c.Dir, "secrets.key") }

// makeKey makes the key that secrets are encrypted with, unless there is one.
func (c *cluster) makeKey(context.Context) error {
	f, err := os.OpenFile(c.keyFile(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("dev: %w", err)
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // it never fails
	_, err = f.WriteString(base64.StdEncoding.EncodeToString(secret) + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("dev: write the key of secrets: %w", err)
	}
	return nil
}

// options returns how node i is started.
func (c *cluster) options(i int) local.NodeOptions {
	o := local.NodeOptions{
		Bin: c.Bin, ID: fmt.Sprintf("node-%d", i), Ports: local.PortsAt(c.PortOffset + i), DatabaseURL: c.database,
	}
	o.Dir, o.Env = filepath.Join(c.Dir, o.ID), []string{"SECRETS_KEY_FILE=" + c.keyFile()}
	if c.Nodes > 1 {
		o.Expect = c.Nodes
		for n := range c.Nodes {
			o.Join = append(o.Join, local.Loopback(local.PortsAt(c.PortOffset+n).Gossip))
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

// metricsInterval is how often the Envoys send their metrics to the nodes.
const metricsInterval = 10 * time.Second

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
		options := bootstrap.Options{Proxy: id, Fleet: fleet, XDS: order, Admin: local.Loopback(c.port(adminPort) + i)}
		if c.database != "" {
			options.MetricsInterval = metricsInterval
		}
		text, err := bootstrap.Envoy(options)
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
func (c *cluster) routed() string { return "http://" + local.Loopback(c.port(listenerPort)) + "/" }

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
