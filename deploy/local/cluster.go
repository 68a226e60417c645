package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	clusterStart = time.Minute
	clusterStop  = 40 * time.Second
)

// ClusterOptions say what cluster a test wants.
type ClusterOptions struct {
	// Bin is the program envoy-control-plane.
	Bin   string
	Nodes int
	// Name begins the nodes' ids ("blue-0"); empty: "node".
	Name string
	// Dir keeps data and logs.
	Dir string
	// DatabaseURL of the archive; empty: none.
	DatabaseURL string
	// Each, when not nil, changes the options of node i last.
	Each func(i int, o *NodeOptions)
}

// Cluster is nodes on loopback.
type Cluster struct {
	Options []NodeOptions
	Nodes   []*Node
}

// NewCluster chooses ports and starts nothing.
func NewCluster(o ClusterOptions) (*Cluster, error) {
	ports, err := FreePorts(5 * o.Nodes)
	if err != nil {
		return nil, err
	}
	if o.Name == "" {
		o.Name = "node"
	}
	c := &Cluster{Nodes: make([]*Node, o.Nodes)}
	var join []string
	for i := range o.Nodes {
		p := ports[5*i : 5*i+5]
		id := fmt.Sprintf("%s-%d", o.Name, i)
		c.Options = append(c.Options, NodeOptions{
			Bin: o.Bin, ID: id, Dir: filepath.Join(o.Dir, id), DatabaseURL: o.DatabaseURL,
			Ports: Ports{HTTP: p[0], Metrics: p[1], XDS: p[2], Raft: p[3], Gossip: p[4]},
		})
		join = append(join, Loopback(p[4]))
	}
	for i := range c.Options {
		if o.Nodes > 1 {
			c.Options[i].Join, c.Options[i].Expect = join, o.Nodes
		}
		if o.Each != nil {
			o.Each(i, &c.Options[i])
		}
	}
	return c, nil
}

// Start starts every node that does not run, and waits until all are ready.
func (c *Cluster) Start(ctx context.Context) error {
	for i := range c.Options {
		if err := c.StartNode(i); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, clusterStart)
	defer cancel()
	for _, n := range c.Nodes {
		if err := n.WaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// StartNode starts node i unless it runs, and returns before it is ready.
func (c *Cluster) StartNode(i int) error {
	if n := c.Nodes[i]; n != nil {
		select {
		case <-n.Done():
		default:
			return nil
		}
	}
	n, err := StartNode(c.Options[i])
	if err == nil {
		c.Nodes[i] = n
	}
	return err
}

// Stop stops all nodes at once.
func (c *Cluster) Stop() {
	ctx, cancel := context.WithTimeout(context.Background(), clusterStop)
	defer cancel()
	var group sync.WaitGroup
	for _, n := range c.Nodes {
		if n != nil {
			group.Go(func() { _ = n.Stop(ctx) }) // killed when its time is over
		}
	}
	group.Wait()
}

// URLs are the REST addresses of all nodes.
func (c *Cluster) URLs() []string {
	urls := make([]string, len(c.Options))
	for i, o := range c.Options {
		urls[i] = "http://" + Loopback(o.Ports.HTTP)
	}
	return urls
}

// XDS are the addresses, host:port, that Envoys connect to.
func (c *Cluster) XDS() []string {
	addresses := make([]string, len(c.Options))
	for i, o := range c.Options {
		addresses[i] = Loopback(o.Ports.XDS)
	}
	return addresses
}

// TestCluster starts a cluster that ends with the test, which fails when it
// cannot be had. The nodes' last words go to the test's log should it fail.
func TestCluster(t interface {
	TB
	Failed() bool
	Logf(format string, args ...any)
}, o ClusterOptions,
) *Cluster {
	t.Helper()
	c, err := NewCluster(o)
	if err != nil {
		t.Fatalf("a cluster to test with: %v", err)
	}
	t.Cleanup(func() {
		c.Stop()
		if !t.Failed() {
			return
		}
		for _, o := range c.Options {
			log, _ := os.ReadFile(filepath.Join(o.Dir, "node.log")) // one that never started has none
			lines := strings.Split(string(log), "\n")
			t.Logf("log of %s:\n%s", o.ID, strings.Join(lines[max(0, len(lines)-20):], "\n"))
		}
	})
	if err := c.Start(context.Background()); err != nil {
		t.Fatalf("a cluster to test with: %v", err)
	}
	return c
}
