package xds

import (
	"context"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/org/envoy-control-plane/fsm"
)

func TestBudget(t *testing.T) {
	b := newBudget(100)
	ctx, cancel := context.WithCancel(context.Background())
	check(t, b.acquire(ctx, 60))
	check(t, b.acquire(ctx, 40))
	done := make(chan error, 1)
	go func() { done <- b.acquire(context.Background(), 100) }()
	eventually(t, "it waits", func() bool { return b.waiting.Load() == 100 })

	// No more than the bound waits.
	if err := b.acquire(ctx, 301); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "100 bytes") {
		t.Fatalf("refused with %v", err)
	}
	// Who goes away waits no longer.
	gone := make(chan error, 1)
	go func() { gone <- b.acquire(ctx, 50) }()
	eventually(t, "both wait", func() bool { return b.waiting.Load() == 150 })
	cancel()
	if err := <-gone; err == nil {
		t.Fatal("acquired")
	}
	b.slots.Release(60)
	b.slots.Release(40)
	check(t, <-done)
	if n := b.waiting.Load(); n != 0 {
		t.Fatalf("%d bytes wait", n)
	}
}

// Large requests wait for the budget, small ones do not.
func TestLargeRequestsWaitForTheBudget(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t, func(c *Config) { c.DecodeBudget = 1 << 20 })
		f.replace(cluster(t, "a", 1))
		f.endpoints("a", 1)
		names := manyNames(5000)
		check(t, f.server.budget.acquire(context.Background(), 1<<20))
		large := f.connect(method)
		large.ask(fsm.TypeEndpoints, append(names, "a")...)
		large.quiet()
		small := f.connectAs(method, node("p2", "web", ""))
		small.ask(fsm.TypeEndpoints, "a")
		small.accept("endpoints a")
		f.server.budget.slots.Release(1 << 20)
		if n := large.next().speaksOf(); n != len(names)+1 {
			t.Fatalf("%d names answered", n)
		}
		// What was taken in holds nothing of it.
		eventually(t, "the budget is free", func() bool {
			if !f.server.budget.slots.TryAcquire(1 << 20) {
				return false
			}
			f.server.budget.slots.Release(1 << 20)
			return true
		})
	})
}

// Many proxies with large requests at once all get their answers.
func TestAStormOfLargeRequests(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t, func(c *Config) { c.DecodeBudget = 4 << 20 })
		f.replace(cluster(t, "a", 1))
		names := manyNames(5000)
		var clients []*client
		for i := range 20 { // what waits stays within its bound
			c := f.connectAs(method, node(sprintf("p%d", i), "web", ""))
			c.ask(fsm.TypeEndpoints, names...)
			clients = append(clients, c)
		}
		for _, c := range clients {
			c.next()
		}
	})
}

// More than may wait is refused, and the refusal names the limit.
func TestTooManyLargeRequests(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.DecodeBudget = 128 << 10 })
	f.replace(cluster(t, "a", 1))
	check(t, f.server.budget.acquire(context.Background(), 128<<10))
	defer f.server.budget.slots.Release(128 << 10)
	names := manyNames(5000)
	var clients []*client
	for i := range 6 {
		c := f.connectAs(adsDelta, node(sprintf("p%d", i), "web", ""))
		c.ask(fsm.TypeEndpoints, names...)
		clients = append(clients, c)
	}
	refused := func() (n int) {
		for _, c := range clients {
			select {
			case err := <-c.ended:
				c.ended <- err
				if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "131072 bytes") {
					t.Fatalf("ended with %v", err)
				}
				n++
			default:
			}
		}
		return n
	}
	eventually(t, "those beyond the bound are refused", func() bool { return refused() == 6-waitingShare })
}

// Names are bounded in bytes over all the requests of a stream.
func TestNamesOfAStreamAreBounded(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.MaxRecvMsgSize = 1 << 20 })
	c := f.connect(adsDelta)
	long := strings.Repeat("n", 10_000)
	for i := range 110 {
		c.ask(fsm.TypeEndpoints, long+sprintf("%d", i))
	}
	if err := c.end(); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "1048576 bytes") {
		t.Fatalf("ended with %v", err)
	}
}

// An idle stream keeps nothing of the requests that it sent.
func TestRequestsAreForgotten(t *testing.T) {
	s := New(Config{}, Deps{})
	in := &inbox{server: s, delta: true}
	b := marshal(t, &discoveryv3.DeltaDiscoveryRequest{Node: node("p", "web", ""), ResourceNamesSubscribe: []string{"a"}})
	check(t, newCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, in))
	r := in.request
	check(t, r.unpack())
	if r.node == nil || r.sub == nil {
		t.Fatalf("%+v", r)
	}
	in.done()
	if in.request != nil || r.node != nil || s.subs.len() != 0 {
		t.Fatalf("%+v of %+v", in, r)
	}
}

func TestAStreamMustSayWhoItIs(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t, func(c *Config) { c.HelloTimeout = 50 * time.Millisecond })
		c := f.connect(method)
		if err := c.end(); status.Code(err) != codes.DeadlineExceeded {
			t.Fatalf("ended with %v", err)
		}
	})
}

// manyNames are n names of about 100 bytes.
func manyNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = sprintf("%0100d", i)
	}
	return names
}
