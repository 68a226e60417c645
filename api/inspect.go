package api

import (
	"cmp"
	"context"
	"encoding/json"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// proxyConfig says what a proxy should have and, where a node tells of its
// streams, what it has.
func proxyConfig(s *Server, c *call, st *fsm.State) (any, error) {
	content := true
	if c.query.Has("content") {
		var err error
		if content, err = c.flag("content"); err != nil {
			return nil, err
		}
	}
	row, err := proxyOf(c, st)
	if err != nil {
		return nil, err
	}
	fleet, _ := st.Fleet(row.GetTenant(), row.GetFleet())
	out := wire.ProxyConfig{
		ID: row.GetId(), Tenant: row.GetTenant(), Fleet: row.GetFleet(), Status: statusJSON(row),
		Revision: fleet.GetRevision(), Streams: []wire.StreamConfig{},
	}
	answers, failed := s.gather(c.ctx, &fsmpb.Query{Query: &fsmpb.Query_Config{Config: &fsmpb.ConfigQuery{
		Tenant: row.GetTenant(), Proxies: []string{row.GetId()},
	}}})
	out.Missing = missing(failed)
	// The nodes may be ahead of the state that the request began with.
	shown := contents{s: s, state: s.deps.Cluster.State(), row: row, on: content}
	for _, a := range answers {
		for _, stream := range a.GetConfig().GetStreams() {
			j, err := shown.stream(a.GetNode(), stream)
			if err != nil {
				return nil, err
			}
			out.Streams = append(out.Streams, j)
		}
	}
	if len(out.Streams) == 0 {
		out.Types, err = shown.expected()
	}
	return out, err
}

// gather asks all nodes, for a bounded time.
func (s *Server) gather(ctx context.Context, q *fsmpb.Query) ([]*fsmpb.Answer, map[string]error) {
	ctx, cancel := context.WithTimeout(ctx, maxGather)
	defer cancel()
	return s.deps.Cluster.Gather(ctx, q)
}

// contents finds the messages behind versions.
type contents struct {
	s     *Server
	state *fsm.State
	row   *fsmpb.Proxy
	on    bool
}

func (x contents) stream(node string, c *fsmpb.StreamConfig) (wire.StreamConfig, error) {
	r := c.GetStream()
	out := wire.StreamConfig{
		Node: node, Peer: r.GetPeer(), Protocol: r.GetProtocol(), Since: instantJSON(r.GetSince()),
		Revision: r.GetRevision(), WaitingFor: r.GetWaitingFor(), Types: []wire.TypeConfig{},
	}
	for _, t := range c.GetTypes() {
		tc := wire.TypeConfig{
			Type: fsm.ShortType(t.GetTypeUrl()), Wildcard: t.GetWildcard(), Resources: []wire.ResourceConfig{},
		}
		for _, res := range t.GetResources() {
			j := wire.ResourceConfig{
				Name: res.GetName(), Status: configStatus(res.GetStatus()),
				Should: res.GetShould(), Sent: res.GetSent(), Acked: res.GetAcked(),
			}
			if j.Status == wire.ConfigRejected {
				j.Rejected = &wire.Rejected{
					Version: res.GetRejected(), Detail: t.GetRejectedDetail(), At: instantJSON(t.GetRejectedAt()),
				}
			}
			var err error
			if j.Resource, err = x.message(t.GetTypeUrl(), j.Name, cmp.Or(j.Should, j.Acked)); err != nil {
				return out, err
			}
			tc.Resources = append(tc.Resources, j)
		}
		out.Types = append(out.Types, tc)
	}
	return out, nil
}

func configStatus(s fsmpb.ResourceConfig_Status) string {
	switch s {
	case fsmpb.ResourceConfig_SYNCED:
		return wire.ConfigSynced
	case fsmpb.ResourceConfig_PENDING:
		return wire.ConfigPending
	case fsmpb.ResourceConfig_REJECTED:
		return wire.ConfigRejected
	case fsmpb.ResourceConfig_ABSENT:
		return wire.ConfigAbsent
	case fsmpb.ResourceConfig_NOT_SENT:
		return wire.ConfigNotSent
	default:
		return wire.ConfigUnknown
	}
}

// message returns the content of a version as JSON: nothing for no version,
// for one that is no longer in memory, and for secrets.
func (x contents) message(url, name, version string) (json.RawMessage, error) {
	if !x.on || version == "" {
		return nil, nil
	}
	body, ok := x.state.Content(x.row.GetTenant(), x.row.GetFleet(), &fsmpb.ResourceKey{TypeUrl: url, Name: name}, version)
	if !ok {
		return nil, nil
	}
	return x.s.message(&fsmpb.Resource{TypeUrl: url, Name: name, Body: body})
}

// retryProxy has what a proxy rejected sent to it once more.
func retryProxy(s *Server, c *call, st *fsm.State) (any, error) {
	url, err := typeParam("query.type", c.query.Get("type"))
	if err != nil {
		return nil, err
	}
	row, err := proxyOf(c, st)
	if err != nil {
		return nil, err
	}
	answers, failed := s.gather(c.ctx, &fsmpb.Query{Query: &fsmpb.Query_Retry{Retry: &fsmpb.RetryQuery{
		Tenant: row.GetTenant(), Proxy: row.GetId(), TypeUrl: url,
	}}})
	out := wire.Retried{Missing: missing(failed)}
	for _, a := range answers {
		out.Retried += int(a.GetRetry().GetRetried())
	}
	s.log.Info("a retry of rejected responses was asked for", "by", c.subject.Name, "request_id", c.id,
		"tenant", row.GetTenant(), "proxy", row.GetId(), "type", fsm.ShortType(url), "responses", out.Retried)
	return out, nil
}
