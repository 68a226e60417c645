package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/deploy/history"
	"github.com/org/envoy-control-plane/deploy/load"
	"github.com/org/envoy-control-plane/deploy/local"
)

const (
	size = 3
	// diskBytes is the size of a node's own file system: too small for a log that is
	// written ahead, which would take writes for minutes on a full disk.
	diskBytes = 256 << 20
	// patience is how long whatever must come right again may take.
	patience = 90 * time.Second
)

// cluster is one of real processes, each on a host and a disk of its own. Its
// methods are for one goroutine, but for urls and note.
type cluster struct {
	t        *testing.T
	dir      string
	net      *network
	nodes    [size]*local.Node
	database *database
	trace    *history.Trace
	http     *load.Client // for what the test itself asks
	kills    int          // of leaders that were at work on the archive
}

func startCluster(t *testing.T, dir string, steps *history.Trace) *cluster {
	t.Helper()
	network, err := newNetwork(size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(network.close)
	c := &cluster{t: t, dir: dir, net: network, trace: steps}
	c.http = load.New(load.Options{ID: -1, URLs: c.urls, History: history.New(), Broken: t.Errorf})
	c.database = startDatabase(t, dir)
	for i := range c.nodes {
		if err := c.mount(i); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(c.disk(i), unix.MNT_DETACH) })
	}
	t.Cleanup(c.stop)
	if err := c.startAll(); err != nil {
		t.Fatal(err)
	}
	if err := c.steady(); err != nil {
		t.Fatal(err)
	}
	return c
}

// mount gives node i a file system, which goes with the namespace of mounts.
func (c *cluster) mount(i int) error {
	if err := os.MkdirAll(c.disk(i), 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", c.disk(i), "tmpfs", 0, fmt.Sprintf("size=%d", diskBytes)); err != nil {
		return fmt.Errorf("mount a disk for %s: %w", nodeID(i), err)
	}
	return nil
}

func nodeID(i int) string                { return fmt.Sprint("node-", i) }
func (c *cluster) disk(i int) string     { return filepath.Join(c.dir, "disk-"+nodeID(i)) }
func (c *cluster) data(i int) string     { return filepath.Join(c.disk(i), "data") }
func (c *cluster) url(i int) string      { return "http://" + c.net.ip(i) + ":8080" }
func (c *cluster) urls() (urls []string) { return []string{c.url(0), c.url(1), c.url(2)} }

// launch starts node i and does not wait.
func (c *cluster) launch(i int) error {
	o := local.NodeOptions{
		Bin: nodeBinary(), ID: nodeID(i), Host: c.net.ip(i), Dir: filepath.Join(c.dir, nodeID(i)), Ports: local.PortsAt(0),
		Expect: size, DatabaseURL: c.database.url,
		Args: []string{"--insecure", "--data-dir", c.data(i), "--log-format", "text"},
	}
	for j := range c.nodes {
		o.Join = append(o.Join, c.net.ip(j))
	}
	return c.net.on(i, func() (err error) {
		c.nodes[i], err = local.StartNode(o)
		return err
	})
}

// startAll starts the nodes that do not run, and waits until all are ready.
func (c *cluster) startAll() error {
	for i := range c.nodes {
		if c.runs(i) {
			continue
		}
		if err := c.launch(i); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, n := range c.nodes {
		if err := n.WaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) runs(i int) bool {
	if c.nodes[i] == nil {
		return false
	}
	select {
	case <-c.nodes[i].Done():
		return false
	default:
		return true
	}
}

// steady returns once every node sees the same leader, all others healthy voters,
// and nothing that is left to do: a past incarnation that still votes makes four
// voters, two of which are too few.
func (c *cluster) steady() error {
	return within(patience, "the cluster is whole", func() error {
		leader := ""
		for i := range c.nodes {
			said, err := c.asks(i)
			if err != nil {
				return fmt.Errorf("%s: %w", nodeID(i), err)
			}
			if said.Leader == "" || leader != "" && said.Leader != leader {
				return fmt.Errorf("%s follows %q, others %q", nodeID(i), said.Leader, leader)
			}
			leader = said.Leader
			if len(said.Nodes) != size || said.Plan != "" {
				return fmt.Errorf("%s sees %d nodes, and as due %q", nodeID(i), len(said.Nodes), said.Plan)
			}
			for _, n := range said.Nodes {
				if n.Role != wire.RoleVoter || !n.Healthy {
					return fmt.Errorf("%s sees %+v", nodeID(i), n)
				}
			}
		}
		return nil
	})
}

// asks returns what node i says of the cluster.
func (c *cluster) asks(i int) (*wire.Cluster, error) {
	a, err := c.http.Send(context.Background(), "GET", c.url(i)+wire.Prefix+"/cluster", "", nil)
	if err != nil {
		return nil, err
	}
	if a.Status != 200 {
		return nil, fmt.Errorf("%d: %s", a.Status, a.Body)
	}
	var said wire.Cluster
	return &said, a.Into(&said)
}

// leader returns the node that leads, and waits for one.
func (c *cluster) leader() (leader int, err error) {
	err = within(patience, "somebody leads", func() error {
		for i := range c.nodes {
			if said, err := c.asks(i); err == nil && said.Leader == nodeID(i) {
				leader = i
				return nil
			}
		}
		return errors.New("nobody says so")
	})
	return leader, err
}

// stop stops all nodes, which must end in order.
func (c *cluster) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	for _, n := range c.nodes {
		if n == nil {
			continue
		}
		if err := n.Stop(ctx); err != nil {
			c.t.Errorf("stop %s: %v", n.ID, err)
		}
	}
}

// database is the Postgres of the archive, which the nodes reach through the
// test: their connections can be cut.
type database struct {
	t        *testing.T
	dir      string
	postgres *local.Postgres
	gate     *gate
	url      string // for the nodes
	// generation counts the standbys that took over.
	generation int
}

// maxConnections is what Postgres has to give.
const maxConnections = 40

func startDatabase(t *testing.T, dir string) *database {
	t.Helper()
	d := &database{t: t, dir: filepath.Join(dir, "postgres")}
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.stop)
	var err error
	if d.gate, err = openGate(hubIP+":0", d.host()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.gate.close)
	d.url = strings.Replace(d.postgres.URL, d.host(), d.gate.address(), 1)
	return d
}

func (d *database) options() local.PostgresOptions {
	return local.PostgresOptions{Dir: d.dir, NoSync: true, Settings: map[string]string{"max_connections": strconv.Itoa(maxConnections)}}
}

// start starts the server, again with the data that it had. Right after a
// kill the old one's processes may still be there.
func (d *database) start() error {
	o := d.options()
	if d.postgres != nil {
		o.Port = d.postgres.Port
	}
	return within(patience, "postgres starts", func() error {
		p, err := local.StartPostgres(context.Background(), o)
		if err == nil {
			d.postgres = p
		}
		return err
	})
}

func (d *database) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := d.postgres.Stop(ctx); err != nil {
		d.t.Errorf("stop postgres: %v", err)
	}
	_ = os.RemoveAll(d.postgres.Dir) // it may be elsewhere than it was asked for
}

// within retries until there is no error, and returns the last one when the
// time is up.
func within(d time.Duration, what string, f func() error) error {
	deadline := time.Now().Add(d)
	for {
		err := f()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %s: %w", what, d, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
