package xds

import (
	"context"
	"errors"
	"io"
	"time"

	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Bounds of one answer about clients, and how many are made at a time.
const (
	maxStatusClients   = 1000
	maxStatusResources = 200_000
	maxStatusBytes     = 32 << 20
	maxStatusAtOnce    = 4
	maxGather          = 5 * time.Second
)

// clientStatus is the service that tells of the proxies of the whole cluster.
type clientStatus struct {
	statusv3.UnimplementedClientStatusDiscoveryServiceServer
	server *Server
}

// FetchClientStatus answers once.
func (c clientStatus) FetchClientStatus(ctx context.Context, r *statusv3.ClientStatusRequest) (*statusv3.ClientStatusResponse, error) {
	return c.server.clientStatus(ctx, r)
}

// StreamClientStatus answers each request of a stream.
func (c clientStatus) StreamClientStatus(g statusv3.ClientStatusDiscoveryService_StreamClientStatusServer) error {
	for {
		r, err := g.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		a, err := c.server.clientStatus(g.Context(), r)
		if err != nil {
			return err
		}
		if err := g.Send(a); err != nil {
			return err
		}
	}
}

// clientStatus answers one request: for the connected proxies of the asking
// node's tenant that it selects.
func (s *Server) clientStatus(ctx context.Context, r *statusv3.ClientStatusRequest) (*statusv3.ClientStatusResponse, error) {
	select {
	case s.statusTurns <- struct{}{}:
		defer func() { <-s.statusTurns }()
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	id, err := s.identityOf(ctx, r.GetNode())
	if err != nil {
		return nil, err
	}
	if !namePattern.MatchString(id.Tenant) {
		return nil, status.Errorf(codes.InvalidArgument, "node.metadata.tenant %.80q cannot name a tenant", id.Tenant)
	}
	match, err := compile(r.GetNodeMatchers())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	st := s.reporter.state.Load()
	if st == nil {
		return nil, status.Error(codes.Unavailable, "this node has no state yet")
	}
	rows, ids := selectProxies(st, id.Tenant, match)
	if len(rows) > maxStatusClients {
		return nil, tooMuch("%d proxies are selected, at most %d can be", len(rows), maxStatusClients)
	}
	told, err := s.gatherConfig(ctx, id.Tenant, ids)
	if err != nil {
		return nil, err
	}
	out, size := &statusv3.ClientStatusResponse{}, 0
	show := statusOf{state: st, contents: !r.GetExcludeResourceContents()}
	for _, row := range rows {
		c := show.client(row, told[row.Id])
		if size += proto.Size(c); size > maxStatusBytes {
			return nil, tooMuch("the answer would have more than %d bytes", maxStatusBytes)
		}
		out.Config = append(out.Config, c)
	}
	return out, nil
}

func tooMuch(format string, args ...any) error {
	return status.Errorf(codes.ResourceExhausted,
		format+": select fewer by node_matchers, or exclude_resource_contents", args...)
}

// selectProxies returns the connected proxies of a tenant that match, by id.
func selectProxies(st *fsm.State, tenant string, match predicate) (rows []*fsmpb.Proxy, ids []string) {
	for row := range st.Proxies(tenant, "") {
		if len(row.Streams) > 0 && match(row) {
			rows, ids = append(rows, row), append(ids, row.Id)
		}
	}
	return rows, ids
}

// gatherConfig asks all nodes for the streams of proxies. Proxies on nodes
// that do not answer have none.
func (s *Server) gatherConfig(ctx context.Context, tenant string, ids []string) (map[string][]*fsmpb.StreamConfig, error) {
	q := &fsmpb.Query{Query: &fsmpb.Query_Config{Config: &fsmpb.ConfigQuery{
		Tenant: tenant, Proxies: ids, Limit: maxStatusResources,
	}}}
	ctx, cancel := context.WithTimeout(ctx, maxGather)
	defer cancel()
	answers, failed := s.gather(ctx, q)
	for node, err := range failed {
		s.log.Warn("client status without a node", "missing", node, "error", err)
	}
	told, resources := map[string][]*fsmpb.StreamConfig{}, 0
	for _, a := range answers {
		for _, c := range a.GetConfig().GetStreams() {
			told[c.Stream.GetProxy()] = append(told[c.Stream.GetProxy()], c)
			for _, t := range c.Types {
				resources += len(t.Resources)
			}
		}
		if a.GetConfig().GetTruncated() || resources > maxStatusResources {
			return nil, tooMuch("the proxies have more than %d resources", maxStatusResources)
		}
	}
	return told, nil
}

// gather asks all nodes, only this one when there is no way to others.
func (s *Server) gather(ctx context.Context, q *fsmpb.Query) ([]*fsmpb.Answer, map[string]error) {
	if s.deps.Gather != nil {
		return s.deps.Gather(ctx, q)
	}
	a, err := s.Answer(ctx, q)
	if err != nil {
		return nil, map[string]error{s.config.NodeID: err}
	}
	return []*fsmpb.Answer{a}, nil
}
