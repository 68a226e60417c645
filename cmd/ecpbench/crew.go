package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/cmd/ecpbench/trio"
	"github.com/org/envoy-control-plane/fsm"
)

// crewStreams is how many proxies of a crew share a connection: what is
// measured with them there is not the xDS server.
const crewStreams = 100

// crew is proxies that are connected to a cluster and do nothing more.
type crew struct {
	cancel context.CancelFunc
	conns  []*grpc.ClientConn
	wg     sync.WaitGroup
}

func proxyID(i int) string { return fmt.Sprintf("proxy-%05d", i) }

// register connects all proxies, spread over the members, and returns when
// every member knows them all.
func (r *trioRun) register(ctx context.Context, c *trio.Cluster) (*crew, error) {
	clients, err := membersClients(c)
	if err != nil {
		return nil, err
	}
	if _, err := clients[0].PutFleet(ctx, fleetName(0), wire.FleetPut{}); err != nil {
		return nil, fmt.Errorf("make a fleet: %w", err)
	}
	life, cancel := context.WithCancel(ctx)
	w := &crew{cancel: cancel}
	for first := 0; first < r.proxies; first += crewStreams {
		conn, err := grpc.NewClient("passthrough:///"+c.XDS(first/crewStreams%trio.Members),
			grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
		if err != nil {
			w.close()
			return nil, fmt.Errorf("connect proxies: %w", err)
		}
		w.conns = append(w.conns, conn)
		for i := first; i < min(first+crewStreams, r.proxies); i++ {
			w.wg.Go(func() { stay(life, conn, proxyID(i)) })
		}
	}
	if err := known(ctx, clients, r.proxies); err != nil {
		w.close()
		return nil, fmt.Errorf("register proxies: %w", err)
	}
	return w, nil
}

// stay keeps a proxy's stream open; one that is moved to another node comes back.
func stay(ctx context.Context, conn *grpc.ClientConn, id string) {
	for ctx.Err() == nil {
		stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
		if err == nil {
			err = stream.Send(&discoveryv3.DeltaDiscoveryRequest{
				Node: &corev3.Node{Id: id, Cluster: fleetName(0)}, TypeUrl: fsm.TypeCluster,
			})
		}
		for err == nil {
			_, err = stream.Recv() // there is nothing in the fleet
		}
		_ = pause(ctx, 10*time.Millisecond) // the loop sees the end
	}
}

// known waits until every member counts n proxies in the fleet.
func known(ctx context.Context, members []*client.Client, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for _, m := range members {
		for {
			fleet, err := m.GetFleet(ctx, fleetName(0))
			if err == nil && fleet.Proxies >= n {
				break
			}
			if pause(ctx, 50*time.Millisecond) != nil {
				return fmt.Errorf("a member knows of %+v: %w", fleet, context.Cause(ctx))
			}
		}
	}
	return nil
}

// membersClients returns a client of each member.
func membersClients(c *trio.Cluster) (clients []*client.Client, err error) {
	for i := range trio.Members {
		one, err := client.New(client.Options{Servers: []string{"http://" + c.Address(i)}})
		if err != nil {
			return nil, err
		}
		clients = append(clients, one)
	}
	return clients, nil
}

func (w *crew) close() {
	w.cancel()
	w.wg.Wait()
	for _, conn := range w.conns {
		_ = conn.Close() // no stream is left
	}
}
