package e2e

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/org/envoy-control-plane/fsm"
)

// hopper is a proxy that knows all nodes, and tries the next one when its
// stream ends.
type hopper struct {
	id    string
	nodes []string
	node  *corev3.Node
	has   map[string]string // versions of what it has

	lost   time.Time // when its stream ended; zero before the first one
	gap    time.Duration
	hops   int
	resent int // resources that came though it had them
}

// run follows streams until the context ends. live counts those that are
// answered.
func (h *hopper) run(ctx context.Context, live *atomic.Int64) {
	for ; ctx.Err() == nil; h.hops++ {
		_ = h.follow(ctx, h.nodes[h.hops%len(h.nodes)], live) // it ends somehow
		h.lost = time.Now()
	}
}

func (h *hopper) follow(ctx context.Context, address string, live *atomic.Int64) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	// Listeners are answered after the clusters, also when there is nothing to send.
	for _, typ := range []string{fsm.TypeCluster, fsm.TypeListener} {
		request := &discoveryv3.DeltaDiscoveryRequest{Node: h.node, TypeUrl: typ}
		if typ == fsm.TypeCluster {
			request.InitialResourceVersions = h.has
		}
		if err := stream.Send(request); err != nil {
			return err
		}
	}
	answered := false
	defer func() {
		if answered {
			live.Add(-1)
		}
	}()
	for {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		if response.TypeUrl == fsm.TypeListener && !answered {
			answered = true
			live.Add(1)
			if !h.lost.IsZero() {
				h.gap = max(h.gap, time.Since(h.lost))
			}
		}
		for _, r := range response.Resources {
			if response.TypeUrl == fsm.TypeCluster {
				if h.has[r.Name] == r.Version {
					h.resent++
				}
				h.has[r.Name] = r.Version
			}
		}
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: response.TypeUrl, ResponseNonce: response.Nonce}); err != nil {
			return err
		}
	}
}

// TestStreamsSpread: proxies that have all come to one node of a cluster are
// moved to the others by and by, none twice, and are sent nothing again.
func TestStreamsSpread(t *testing.T) {
	const proxies, margin = 30, 10
	c := startCluster(t, 3, "")
	c.ecpctl(0, fleetYAML(t, 10000, 10001), "apply", "-f", "-", "--fleet", "edge")
	var nodes []string
	for _, n := range c.nodes {
		nodes = append(nodes, n.XDS())
	}
	ctx, cancel := context.WithCancel(t.Context())
	var live atomic.Int64
	var running sync.WaitGroup
	hoppers := make([]*hopper, proxies)
	for i := range hoppers {
		id := fmt.Sprintf("proxy-%d", i)
		h := &hopper{id: id, node: &corev3.Node{Id: id, Cluster: "edge"}, has: map[string]string{}}
		h.nodes = []string{nodes[0], nodes[1+i%2], nodes[2-i%2]}
		hoppers[i] = h
		running.Go(func() { h.run(ctx, &live) })
	}
	count := func(i int) int { return int(c.metric(i, `ecp_xds_streams{protocol="delta"}`)) }
	spread := func() error {
		a, b, d := count(0), count(1), count(2)
		if a > proxies/3+margin || a+b+d != proxies || live.Load() != proxies {
			return fmt.Errorf("%d, %d and %d streams, %d answered", a, b, d, live.Load())
		}
		return nil
	}
	eventually(t, time.Minute, "the streams spread", spread)
	moved := c.metric(0, "ecp_xds_moved_total")
	time.Sleep(3 * time.Second) // nothing moves back, or on
	if err := spread(); err != nil || c.metric(0, "ecp_xds_moved_total") != moved || moved < proxies*2/3-margin {
		t.Errorf("%v moved, then %v: %v", moved, c.metric(0, "ecp_xds_moved_total"), err)
	}
	cancel()
	running.Wait()
	for _, h := range hoppers {
		if h.hops > 2 || h.gap > 3*time.Second || h.resent > 0 {
			t.Errorf("%s: %d streams, at most %v without one, %d resources sent again", h.id, h.hops, h.gap, h.resent)
		}
	}
}
