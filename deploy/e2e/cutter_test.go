package e2e

import (
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/deploy/local"
)

// startCutter listens before the nodes' xDS ports. Each connection leads to
// a node at random, and is closed at a random moment of its first 150 ms.
// The function tells how many were.
func startCutter(t *testing.T, nodes []*local.Node) (address string, cuts func() int64) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	var total atomic.Int64
	go func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return // closed at the end of the test
			}
			node, err := net.Dial("tcp", nodes[rand.IntN(len(nodes))].XDS())
			if err != nil {
				_ = client.Close()
				continue
			}
			local.Pipe(client, node)
			time.AfterFunc(rand.N(150*time.Millisecond), func() {
				total.Add(1)
				_, _ = client.Close(), node.Close()
			})
		}
	}()
	return ln.Addr().String(), total.Load
}

// detour leads connections to one node, and to the next after each turn.
type detour struct {
	address string

	mu   sync.Mutex
	at   int
	open []net.Conn
}

func startDetour(t *testing.T, nodes []*local.Node) *detour {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	d := &detour{address: ln.Addr().String()}
	go func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return // closed at the end of the test
			}
			d.lead(client, nodes)
		}
	}()
	return d
}

func (d *detour) lead(client net.Conn, nodes []*local.Node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	node, err := net.Dial("tcp", nodes[d.at%len(nodes)].XDS())
	if err != nil {
		_ = client.Close()
		return
	}
	d.open = append(d.open, client)
	local.Pipe(client, node)
}

// turn closes what is open, and leads to the next node.
func (d *detour) turn() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at++
	for _, c := range d.open {
		_ = c.Close()
	}
	d.open = nil
}
