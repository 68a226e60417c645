package trio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/org/envoy-control-plane/deploy/local"
)

// Members is how many processes a cluster has.
const Members = 3

// Kinds of clusters.
const (
	ECP  = "ecp"
	Etcd = "etcd"
)

// Options of a cluster.
type Options struct {
	// Kind is ECP or Etcd, Bin its program.
	Kind, Bin string
	// Dir gets the members' data and logs.
	Dir string
	// Args are added to the command line of every member of ours.
	Args []string
	// Seed is a backup, of a cluster SeedCluster, that a new cluster of ours
	// goes on from; empty: none.
	Seed, SeedCluster string
	// DatabaseURL of the archive of a cluster of ours; empty: none.
	DatabaseURL string
	// CountSyncs has strace count the calls of fdatasync and fsync.
	CountSyncs bool
}

// Cluster is a cluster of three processes.
type Cluster struct {
	o     Options
	kind  kind
	ports [Members]local.Ports

	mu      sync.Mutex
	members [Members]*local.Process
}

// kind is what the kinds of clusters do each in their own way.
type kind interface {
	// start starts member i.
	start(c *Cluster, i int, under []string) (*local.Process, error)
	// ready reports why member i cannot serve yet.
	ready(ctx context.Context, c *Cluster, i int) error
	// leads and changes are metrics: 1 on the leader, and one that grows with
	// each election.
	leads() string
	changes() string
	// writer makes the client of a key.
	writer(key string, addresses [Members]string) Writer
	// address is where the clients of member i connect to, metrics its page.
	address(c *Cluster, i int) string
	metrics(c *Cluster, i int) string
}

// New makes a cluster that has not started.
func New(o Options) (*Cluster, error) {
	c := &Cluster{o: o}
	switch o.Kind {
	case ECP:
		c.kind = ours{}
	case Etcd:
		c.kind = etcd{}
	default:
		return nil, fmt.Errorf("there is no cluster of kind %q", o.Kind)
	}
	free, err := local.FreePorts(5 * Members)
	if err != nil {
		return nil, err
	}
	for i := range c.ports {
		p := free[5*i:]
		c.ports[i] = local.Ports{HTTP: p[0], Metrics: p[1], XDS: p[2], Raft: p[3], Gossip: p[4]}
	}
	return c, nil
}

func (c *Cluster) id(i int) string { return "node-" + strconv.Itoa(i+1) }

func (c *Cluster) dir(i int) string { return filepath.Join(c.o.Dir, c.id(i)) }

// Start starts all members and returns when all of them serve.
func (c *Cluster) Start(ctx context.Context) error {
	for i := range Members {
		if err := c.Begin(i); err != nil {
			return errors.Join(err, c.Stop())
		}
	}
	if err := c.Ready(ctx); err != nil {
		return errors.Join(err, c.Stop())
	}
	return nil
}

// Begin starts a member that does not run.
func (c *Cluster) Begin(i int) error {
	var under []string
	if c.o.CountSyncs {
		under = countSyncs(c.syncFile(i))
	}
	p, err := c.kind.start(c, i, under)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members[i] = p
	return nil
}

func (c *Cluster) member(i int) *local.Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.members[i]
}

// Ready waits until all members serve and one of them leads.
func (c *Cluster) Ready(ctx context.Context) error {
	for i := range Members {
		if err := c.await(ctx, func() error { return c.kind.ready(ctx, c, i) }); err != nil {
			return fmt.Errorf("%s %s is not ready: %w", c.o.Kind, c.id(i), err)
		}
	}
	return c.await(ctx, func() error {
		_, err := c.Leader(ctx)
		return err
	})
}

// await calls f until it has no error.
func (c *Cluster) await(ctx context.Context, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Kill ends a member as kill -9 does.
func (c *Cluster) Kill(i int) { c.member(i).Kill() }

// Signal sends a member a signal.
func (c *Cluster) Signal(i int, s os.Signal) error { return c.member(i).Signal(s) }

// Ended waits until a member has ended.
func (c *Cluster) Ended(i int) { <-c.member(i).Done() }

// PID is the process id of a member.
func (c *Cluster) PID(i int) int { return c.member(i).Pid() }

// Stop ends all members.
func (c *Cluster) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var errs []error
	for i := range Members {
		if p := c.member(i); p != nil {
			errs = append(errs, p.Stop(ctx))
		}
	}
	return errors.Join(errs...)
}

// Address is where the clients of a member connect to.
func (c *Cluster) Address(i int) string { return c.kind.address(c, i) }

// XDS is where the proxies of a member connect to.
func (c *Cluster) XDS(i int) string { return local.Loopback(c.ports[i].XDS) }

// Kind is ECP or Etcd.
func (c *Cluster) Kind() string { return c.o.Kind }

// Leader returns the member that leads.
func (c *Cluster) Leader(ctx context.Context) (int, error) {
	for i := range Members {
		if leads, err := c.metric(ctx, i, c.kind.leads()); err == nil && leads > 0 {
			return i, nil
		}
	}
	return 0, errors.New("nobody leads")
}

// Elections is a number that grows with each change of the leader, as the
// member that has seen most of them counts.
func (c *Cluster) Elections(ctx context.Context) (most float64, err error) {
	for i := range Members {
		n, err := c.metric(ctx, i, c.kind.changes())
		if err != nil {
			return 0, err
		}
		most = max(most, n)
	}
	return most, nil
}

// Writer makes a client that writes one key. It is for one goroutine.
func (c *Cluster) Writer(key string) Writer {
	var addresses [Members]string
	for i := range addresses {
		addresses[i] = c.Address(i)
	}
	return c.kind.writer(key, addresses)
}

// A Writer writes one key over a connection of its own to each member.
type Writer interface {
	// Put writes a value over a member; nil means acknowledged.
	Put(ctx context.Context, member int, value []byte) error
	// Get reads it over a member; strong: not older than what was acknowledged
	// before.
	Get(ctx context.Context, member int, strong bool) error
	Close()
}
