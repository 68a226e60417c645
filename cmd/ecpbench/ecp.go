package main

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
	"github.com/org/envoy-control-plane/xds"
)

// Names of the tenant and the one node.
const (
	tenantName = "default"
	nodeName   = "node-1"
)

// ecp is package xds on a state that commands change right away, those that
// register proxies included.
type ecp struct {
	scene    *scene
	server   *xds.Server
	registry ackRegistry

	applies int64

	mu    sync.Mutex
	state *fsm.State
}

func newECP(s *scene) (*ecp, error) {
	e := &ecp{scene: s, registry: ackRegistry{prometheus.NewRegistry()}, state: fsm.New()}
	e.server = xds.New(xds.Config{NodeID: nodeName, NodeStart: time.Now().UnixNano()},
		xds.Deps{Registry: e.registry, Cluster: e})
	e.server.Applied(e.state, nil)
	for f := range s.fleets {
		if err := e.putFleet(f); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// putFleet makes a fleet with all that belongs to it.
func (e *ecp) putFleet(f int) error {
	if err := e.do(&fsmpb.Command{Op: &fsmpb.Command_PutFleet{
		PutFleet: &fsmpb.PutFleet{Tenant: tenantName, Name: fleetName(f)},
	}}); err != nil {
		return err
	}
	var clusters []*fsmpb.Resource
	for _, i := range e.scene.of(f) {
		if err := e.putEndpoints(i); err != nil {
			return err
		}
		r, err := clusterResource(e.scene, i)
		if err != nil {
			return err
		}
		clusters = append(clusters, r)
	}
	return e.do(&fsmpb.Command{Op: &fsmpb.Command_ChangeFleet{ChangeFleet: &fsmpb.ChangeFleet{
		Tenant: tenantName, Fleet: fleetName(f), Mode: fsmpb.ChangeFleet_REPLACE, Upsert: clusters, Force: true,
	}}})
}

func clusterResource(s *scene, i int) (*fsmpb.Resource, error) {
	body, err := encode(s.cluster(i))
	return &fsmpb.Resource{
		TypeUrl: fsm.TypeCluster, Name: clusterName(i), Body: body, Hash: fsm.ResourceHash(body, nil, 0),
		References: []*fsmpb.Reference{{Kind: fsmpb.Reference_ENDPOINTS, Name: clusterName(i)}},
	}, err
}

func (e *ecp) options() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.Creds(e.server.Credentials(insecure.NewCredentials()))}
}

func (e *ecp) register(g *grpc.Server) { e.server.Register(g) }

func (e *ecp) run(ctx context.Context) error { return e.server.Run(ctx) }

// drain hands all streams over within the default time.
func (e *ecp) drain() { e.server.SetDraining(true, 0) }

func (e *ecp) change(n int) error { return e.putEndpoints(e.scene.change(n)) }

func (e *ecp) putEndpoints(i int) error {
	body, err := encode(e.scene.assignment(i))
	if err != nil {
		return err
	}
	return e.do(&fsmpb.Command{Op: &fsmpb.Command_PutEndpoints{PutEndpoints: &fsmpb.PutEndpoints{
		Tenant: tenantName, Service: clusterName(i), Body: body, Hash: fsm.ResourceHash(body, nil, 0),
	}}})
}

// apply implements applier.
func (e *ecp) apply() error {
	body, err := encode(e.scene.assignment(0))
	if err != nil {
		return err
	}
	e.applies++
	return e.do(&fsmpb.Command{Op: &fsmpb.Command_PutEndpoints{PutEndpoints: &fsmpb.PutEndpoints{
		Tenant: tenantName, Service: "nobody-asks-for-it", Body: body,
		Hash: fsm.ResourceHash(strconv.AppendInt(nil, e.applies, 10), nil, 0), // each is a change
	}}})
}

func (e *ecp) do(c *fsmpb.Command) error {
	r, err := e.Propose(context.Background(), c)
	if err != nil {
		return err
	}
	return fsm.ResultError(r)
}

// Propose implements xds.Proposer.
func (e *ecp) Propose(_ context.Context, c *fsmpb.Command) (*fsmpb.Result, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	next, results, events := e.state.Apply(e.state.Index()+1, &fsmpb.Entry{
		Stamp: time.Now().UnixNano(), Commands: []*fsmpb.Command{proto.CloneOf(c)},
	})
	e.state = next
	if events == nil {
		events = []*fsmpb.Event{} // nil would mean that everything may have changed
	}
	e.server.Applied(next, events)
	return results[0], nil
}

// acks reads the counter of package xds.
func (e *ecp) acks() (uint64, error) { return e.registry.total() }
