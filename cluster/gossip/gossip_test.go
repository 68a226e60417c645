package gossip

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
	"github.com/org/envoy-control-plane/deploy/local"
)

// node is a Gossip that runs.
type node struct {
	*Gossip
	cluster atomic.Pointer[string]
	streams atomic.Uint32
	stop    func()
}

func free(t *testing.T, n int) []int {
	t.Helper()
	ports, err := local.FreePorts(n)
	if err != nil {
		t.Fatal(err)
	}
	return ports
}

func start(t *testing.T, serverID string, port int, join ...string) *node {
	t.Helper()
	n := &node{}
	none := ""
	n.cluster.Store(&none)
	began := time.Now().UnixNano()
	n.Gossip = New(Config{
		Bind: "127.0.0.1", Port: port, Advertise: "localhost", Join: join, Log: slog.New(slog.DiscardHandler),
		Meta: func() *clusterpb.Meta {
			return &clusterpb.Meta{
				ServerId: serverID, ClusterId: *n.cluster.Load(), Host: "localhost", RaftPort: 7000, Start: began, Streams: n.streams.Load(),
			}
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	if err := n.Start(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	n.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		done <- nil
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(n.stop)
	return n
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}

func TestNodesFindEachOtherAndTell(t *testing.T) {
	ports := free(t, 3)
	first := fmt.Sprintf("localhost:%d", ports[0])
	var nodes []*node
	for i, p := range ports {
		nodes = append(nodes, start(t, fmt.Sprintf("n%d/1", i), p, first))
	}
	for _, n := range nodes {
		eventually(t, "three members", func() bool { return len(n.Members()) == 3 })
		if got := n.Address("n2/1"); got != "localhost:7000" {
			t.Errorf("address %q: the name, not what it was looked up to", got)
		}
	}
	nodes[1].streams.Store(42)
	eventually(t, "the load is told", func() bool { return nodes[2].Members()[1].Meta.Streams == 42 })

	if err := nodes[1].Leave(time.Second); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the leave is noticed", func() bool { return len(nodes[2].Members()) == 2 })
	if nodes[2].Address("n1/1") != "" {
		t.Error("an address of one that left")
	}
}

// A node that comes back at another address, while the others still believe in
// the old one, is found there at once.
func TestNodeComesBackElsewhere(t *testing.T) {
	ports := free(t, 3)
	first := fmt.Sprintf("127.0.0.1:%d", ports[0])
	a := start(t, "a/1", ports[0])
	b := start(t, "b/1", ports[1], first)
	eventually(t, "two members", func() bool { return len(a.Members()) == 2 })
	b.stop()
	elsewhere := ports[2]
	start(t, "b/1", elsewhere, first)
	began := time.Now()
	eventually(t, "the new address", func() bool {
		for _, m := range a.Members() {
			if m.NodeID() == "b" && strings.HasSuffix(m.GossipAddress, fmt.Sprint(":", elsewhere)) {
				return true
			}
		}
		return false
	})
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
	if len(a.Members()) != 2 {
		t.Errorf("members %v", a.Members())
	}
}

func TestAnotherClusterIsNotLetIn(t *testing.T) {
	ports := free(t, 2)
	a := start(t, "a/1", ports[0])
	mine := "one"
	a.cluster.Store(&mine)
	a.Tell()
	b := start(t, "b/1", ports[1])
	theirs := "two"
	b.cluster.Store(&theirs)
	b.Tell()
	_, _ = b.list.Join([]string{fmt.Sprintf("127.0.0.1:%d", ports[0])}) // whether it says so or not
	time.Sleep(500 * time.Millisecond)
	if len(a.Members()) != 1 || len(b.Members()) != 1 {
		t.Errorf("members %v and %v", a.Members(), b.Members())
	}
}

func TestAddressesOfNames(t *testing.T) {
	port := free(t, 1)[0]
	g := start(t, "a/1", port, fmt.Sprintf("127.0.0.1:%d", port), "127.0.0.2", "no-such-host.invalid:1", "127.0.0.2")
	addresses, unknown := g.Addresses(context.Background())
	if len(addresses) != 1 || addresses[0] != fmt.Sprintf("127.0.0.2:%d", port) {
		t.Errorf("addresses %v: without its own, each once, with the own port by default", addresses)
	}
	if len(unknown) != 1 || unknown[0] != "no-such-host.invalid:1" {
		t.Errorf("unknown %v", unknown)
	}
}

func TestMetadataFits(t *testing.T) {
	m := &clusterpb.Meta{
		ServerId: strings.Repeat("n", 63) + "/0123456789", ClusterId: "0123456789abcdef", Host: strings.Repeat("h", 253),
		RaftPort: 65535, Zone: strings.Repeat("z", 63), Voter: true, Start: time.Now().UnixNano(), Streams: 1 << 31,
	}
	if b := encode(m); b == nil || len(b) > memberlist.MetaMaxSize {
		t.Errorf("the longest metadata that Validate lets pass takes %d bytes", len(b))
	}
}
