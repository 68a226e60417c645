package api

import (
	"context"
	"net"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func listProxies(s *Server, c *call, st *fsm.State) (any, error) {
	t, err := tenantOf(c, st)
	if err != nil {
		return nil, err
	}
	status, fleet := c.query.Get("status"), c.query.Get("fleet")
	switch status {
	case "", wire.StatusConnected, wire.StatusDisconnected:
	default:
		return nil, refuseParameter("status", "it is %s or %s", wire.StatusConnected, wire.StatusDisconnected)
	}
	p, err := c.page("proxies")
	if err != nil {
		return nil, err
	}
	keep := func(row *fsmpb.Proxy) bool {
		return (fleet == "" || row.GetFleet() == fleet) && (status == "" || statusJSON(row) == status)
	}
	rows, next := take(p, st.Proxies(t.GetName(), p.after), (*fsmpb.Proxy).GetId, keep)
	list := wire.List[wire.Proxy]{Items: make([]wire.Proxy, len(rows)), Next: next}
	reports := s.reports(c.ctx, t.GetName(), rows)
	for i, row := range rows {
		list.Items[i] = proxyJSON(st, row, reports[row.GetId()])
	}
	return list, nil
}

func getProxy(s *Server, c *call, st *fsm.State) (any, error) {
	row, err := proxyOf(c, st)
	if err != nil {
		return nil, err
	}
	reports := s.reports(c.ctx, row.GetTenant(), []*fsmpb.Proxy{row})
	return proxyJSON(st, row, reports[row.GetId()]), nil
}

// proxyOf returns the row of the proxy that a path names.
func proxyOf(c *call, st *fsm.State) (*fsmpb.Proxy, error) {
	t, err := tenantOf(c, st)
	if err != nil {
		return nil, err
	}
	row, ok := st.Proxy(t.GetName(), c.param("proxy"))
	if !ok {
		return nil, refuse(wire.CodeProxyNotFound, "tenant %q has no proxy %q", t.GetName(), c.param("proxy"))
	}
	return row, nil
}

func (s *Server) deleteProxy(c *call) (*answer, error) {
	return s.delete(c, &fsmpb.Command{Op: &fsmpb.Command_DeleteProxy{
		DeleteProxy: &fsmpb.DeleteProxy{Tenant: c.param("tenant"), Id: c.param("proxy")},
	}})
}

// reports asks all nodes for the streams of the connected ones among rows. A
// node that does not answer leaves its streams without details.
func (s *Server) reports(ctx context.Context, tenant string, rows []*fsmpb.Proxy) map[string][]*fsmpb.StreamReport {
	q := &fsmpb.StreamsQuery{Tenant: tenant}
	for _, row := range rows {
		if len(row.GetStreams()) > 0 {
			q.Proxies = append(q.Proxies, row.GetId())
		}
	}
	out := map[string][]*fsmpb.StreamReport{}
	if q.Proxies == nil {
		return out
	}
	answers, failed := s.gather(ctx, &fsmpb.Query{Query: &fsmpb.Query_Streams{Streams: q}})
	for node, err := range failed {
		s.log.Debug("node does not tell of its streams", "node", node, "error", err)
	}
	for _, a := range answers {
		for _, r := range a.GetStreams().GetStreams() {
			out[r.GetProxy()] = append(out[r.GetProxy()], r)
		}
	}
	return out
}

func statusJSON(row *fsmpb.Proxy) string {
	if len(row.GetStreams()) > 0 {
		return wire.StatusConnected
	}
	return wire.StatusDisconnected
}

// proxyJSON puts a proxy's row and what the nodes tell of its streams
// together.
func proxyJSON(st *fsm.State, row *fsmpb.Proxy, reports []*fsmpb.StreamReport) wire.Proxy {
	out := wire.Proxy{
		ID: row.GetId(), Tenant: row.GetTenant(), Fleet: row.GetFleet(),
		Streams: []wire.Stream{}, DuplicateID: severalHosts(row.GetStreams()), Status: statusJSON(row),
		Build: row.GetBuild(), Labels: labelsJSON(row.GetLabels()), Types: map[string]wire.TypeStatus{},
		FirstSeen: instantJSON(row.GetFirstSeen()), ChangedAt: instantJSON(row.GetChangedAt()),
	}
	if l := row.GetLocality(); l.GetRegion()+l.GetZone()+l.GetSubZone() != "" {
		out.Locality = &wire.Locality{Region: l.GetRegion(), Zone: l.GetZone(), SubZone: l.GetSubZone()}
	}
	told := 0
	for _, stream := range row.GetStreams() {
		report := reportOf(reports, stream)
		if report != nil {
			told++
		}
		out.Streams = append(out.Streams, streamJSON(stream, report))
	}
	for _, r := range row.GetRejections() {
		out.Types[fsm.ShortType(r.GetTypeUrl())] = wire.TypeStatus{Rejected: &wire.Rejected{
			Version: r.GetVersion(), Detail: r.GetDetail(), At: instantJSON(r.GetAt()),
		}}
	}
	fleet, _ := st.Fleet(row.GetTenant(), row.GetFleet())
	s := syncing{revision: fleet.GetRevision(), types: map[string]*fsmpb.TypeReport{}}
	for _, r := range reports {
		s.add(r)
	}
	s.fill(&out, told == len(row.GetStreams()) && told > 0)
	return out
}

// reportOf finds a stream's report.
func reportOf(reports []*fsmpb.StreamReport, s *fsmpb.Stream) *fsmpb.StreamReport {
	for _, r := range reports {
		if r.GetNodeStart() == s.GetNodeStart() && r.GetNumber() == s.GetNumber() && r.GetPeer() == s.GetPeer() {
			return r
		}
	}
	return nil
}

func streamJSON(s *fsmpb.Stream, r *fsmpb.StreamReport) wire.Stream {
	out := wire.Stream{
		Node: s.GetNode(), Peer: s.GetPeer(), Protocol: s.GetProtocol(),
		Types: []string{}, Since: instantJSON(s.GetSince()),
	}
	for _, t := range r.GetTypes() {
		out.Types = append(out.Types, fsm.ShortType(t.GetTypeUrl()))
	}
	return out
}

// severalHosts reports streams from more than one host at once: two Envoys
// under one id. One Envoy may well have several streams.
func severalHosts(streams []*fsmpb.Stream) bool {
	first := ""
	for _, s := range streams {
		host, _, err := net.SplitHostPort(s.GetPeer())
		if err != nil {
			host = s.GetPeer()
		}
		if first != "" && host != first {
			return true
		}
		first = host
	}
	return false
}

// syncing sums up a proxy's streams.
type syncing struct {
	revision uint64 // that the fleet is at
	reached  uint64 // by all streams
	streams  int
	rejected bool
	waiting  string
	types    map[string]*fsmpb.TypeReport
}

func (s *syncing) add(r *fsmpb.StreamReport) {
	if s.streams == 0 || r.GetRevision() < s.reached {
		s.reached = r.GetRevision()
	}
	if s.waiting == "" {
		s.waiting = r.GetWaitingFor()
	}
	s.streams++
	for _, t := range r.GetTypes() {
		s.rejected = s.rejected || t.GetRejectedVersion() != ""
		if old := s.types[t.GetTypeUrl()]; old == nil || matters(t, old) {
			s.types[t.GetTypeUrl()] = t
		}
	}
}

// matters reports whether a stream's record of a type says more about the
// proxy than another's: a rejection, else what was sent last.
func matters(t, old *fsmpb.TypeReport) bool {
	if rejected := t.GetRejectedVersion() != ""; rejected != (old.GetRejectedVersion() != "") {
		return rejected
	}
	return t.GetSentAt() > old.GetSentAt()
}

// fill puts the sum into a proxy; complete when every stream was told of.
func (s *syncing) fill(out *wire.Proxy, complete bool) {
	out.Sync = wire.SyncPending
	switch {
	case s.rejected || s.streams == 0 && len(out.Types) > 0:
		out.Sync = wire.SyncRejected
	case complete && s.reached >= s.revision:
		out.Sync = wire.SyncSynced
	}
	if complete {
		out.Revision = s.reached
	}
	if out.Sync == wire.SyncPending {
		out.WaitingFor = s.waiting
	}
	for url, t := range s.types {
		status := wire.TypeStatus{Sent: t.GetSent(), Acked: t.GetAcked()}
		if t.GetRejectedVersion() != "" {
			status.Rejected = &wire.Rejected{
				Version: t.GetRejectedVersion(), Detail: t.GetRejectedDetail(), At: instantJSON(t.GetRejectedAt()),
			}
		}
		out.Types[fsm.ShortType(url)] = status
	}
}
