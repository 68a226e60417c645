package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// site is one place where a node runs, over its restarts.
type site struct {
	t    testing.TB
	cfg  Config
	deps Deps

	node *Node
	stop context.CancelFunc
	done chan error
}

// nextPort walks below the range that outgoing connections are given ports
// from, so that a node finds its port again after a restart.
var nextPort atomic.Int64

// ports returns free ports of 127.0.0.1, for TCP and UDP both.
func ports(t testing.TB, count int) []int {
	t.Helper()
	nextPort.CompareAndSwap(0, 20000+int64(os.Getpid()*37%10000))
	var out []int
	for len(out) < count {
		address := fmt.Sprintf("127.0.0.1:%d", nextPort.Add(1))
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		l.Close()
		u, err := net.ListenPacket("udp", address)
		if err != nil {
			continue
		}
		u.Close()
		out = append(out, l.Addr().(*net.TCPAddr).Port)
	}
	return out
}

func logger(t testing.TB, node string) *slog.Logger {
	t.Helper()
	w := io.Discard
	if os.Getenv("CLUSTER_TEST_LOG") != "" {
		w = os.Stderr
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})).With("on", node)
}

// newSites makes count nodes that join each other; change adapts each.
func newSites(t testing.TB, count int, change func(i int, c *Config, d *Deps)) []*site {
	t.Helper()
	all := ports(t, 2*count)
	var join []string
	for i := range count {
		join = append(join, fmt.Sprintf("127.0.0.1:%d", all[2*i+1]))
	}
	var sites []*site
	for i := range count {
		id := fmt.Sprintf("n%d", i+1)
		s := &site{t: t, cfg: Config{
			NodeID: id, DataDir: t.TempDir(), Bind: "127.0.0.1", Advertise: "127.0.0.1",
			RaftPort: all[2*i], GossipPort: all[2*i+1], BootstrapExpect: count, Build: "test",
			Timers: Timers{Failover: 10 * time.Second},
		}, deps: Deps{Log: logger(t, id), reserve: 256 << 10}}
		if count > 1 {
			s.cfg.Join = slices.Clone(join)
		}
		if change != nil {
			change(i, &s.cfg, &s.deps)
		}
		sites = append(sites, s)
	}
	return sites
}

// up starts the node and leaves the rest to eventually.
func (s *site) up() *Node {
	s.t.Helper()
	return s.run(s.make())
}

// make returns the node before it runs.
func (s *site) make() *Node {
	s.t.Helper()
	s.deps.Metrics = prometheus.NewRegistry()
	n, err := New(s.cfg, s.deps)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *site) run(n *Node) *Node {
	ctx, cancel := context.WithCancel(context.Background())
	s.node, s.stop, s.done = n, cancel, make(chan error, 1)
	done := s.done
	go func() { done <- n.Run(ctx) }()
	s.t.Cleanup(s.kill)
	return n
}

// kill stops the node without a word to the others.
func (s *site) kill() {
	s.t.Helper()
	if s.node == nil {
		return
	}
	s.stop()
	s.wait()
}

func (s *site) wait() {
	s.t.Helper()
	select {
	case err := <-s.done:
		if err != nil {
			s.t.Errorf("%s: Run: %v", s.cfg.NodeID, err)
		}
	case <-time.After(15 * time.Second):
		s.t.Errorf("%s: Run did not return", s.cfg.NodeID)
	}
	s.node = nil
}

// wipe replaces the stopped node's disk.
func (s *site) wipe() {
	s.t.Helper()
	s.cfg.DataDir = s.t.TempDir()
}

func upAll(sites []*site) {
	for _, s := range sites {
		s.up()
	}
}

func eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func awaitReady(t testing.TB, sites ...*site) {
	t.Helper()
	for _, s := range sites {
		eventually(t, 15*time.Second, s.cfg.NodeID+" ready", func() bool {
			select {
			case err := <-s.done:
				t.Fatalf("%s: Run returned: %v", s.cfg.NodeID, err)
			default:
			}
			return s.node.Ready()
		})
	}
}

// leader returns the site whose node leads with a committed entry of its term.
func leader(t *testing.T, sites []*site) *site {
	t.Helper()
	var found *site
	eventually(t, 10*time.Second, "a leader", func() bool {
		for _, s := range sites {
			if s.node == nil {
				continue
			}
			if term, _ := s.node.Leadership(); term != 0 && s.node.IsLeader() {
				found = s
				return true
			}
		}
		return false
	})
	return found
}

func others(sites []*site, not *site) []*site {
	return slices.DeleteFunc(slices.Clone(sites), func(s *site) bool { return s == not || s.node == nil })
}

func putTenant(name string) *fsmpb.Command {
	return &fsmpb.Command{By: "test", Op: &fsmpb.Command_PutTenant{PutTenant: &fsmpb.PutTenant{Name: name}}}
}

// propose writes under a key, which survives an election on a busy machine.
func propose(t *testing.T, n *Node, name string) *fsmpb.Result {
	t.Helper()
	c := putTenant(name)
	c.Idempotency = &fsmpb.IdempotencyKey{Key: name, RequestHash: []byte(name)}
	return applied(t, n, c)
}

// proposeOnce writes without a key: an outcome that is not known is an error.
func proposeOnce(t *testing.T, n *Node, name string) *fsmpb.Result {
	t.Helper()
	return applied(t, n, putTenant(name))
}

func applied(t *testing.T, n *Node, c *fsmpb.Command) *fsmpb.Result {
	t.Helper()
	r, err := n.Propose(context.Background(), c)
	if err == nil {
		err = fsm.ResultError(r)
	}
	if err != nil {
		t.Errorf("propose on %s: %v: %v", n.NodeID(), c, err)
		return &fsmpb.Result{}
	}
	return r
}

func hasTenant(n *Node, name string) bool {
	_, ok := n.State().Tenant(name)
	return ok
}

// recorder is an Observer.
type recorder struct {
	mu     sync.Mutex
	events []*fsmpb.Event
	resets int
}

func (r *recorder) Applied(_ *fsm.State, events []*fsmpb.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if events == nil {
		r.resets++
	}
	r.events = append(r.events, events...)
}

func (r *recorder) seen() (events []*fsmpb.Event, resets int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events), r.resets
}

var errTest = errors.New("test")
