package api

import (
	"context"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
)

// reporting answers with one of the archive's reports.
func reporting[T any](kind string, ask func(Archived, context.Context, ReportQuery) (*wire.Report[T], error)) handler {
	return read(func(s *Server, c *call, st *fsm.State) (any, error) {
		if _, err := tenantOf(c, st); err != nil {
			return nil, err
		}
		if s.deps.Archived == nil {
			return nil, refuse(wire.CodeArchiveDisabled, "the node has no database: nothing is archived that could be reported on")
		}
		p, err := c.page("report of " + kind)
		if err != nil {
			return nil, err
		}
		q := ReportQuery{
			Tenant: c.param("tenant"), Fleet: c.query.Get("fleet"), Kind: c.query.Get("kind"), By: c.query.Get("by"),
			Interval: c.query.Get("interval"), Name: c.query.Get("name"), Proxy: c.query.Get("proxy"), Labels: c.query.Get("labels"),
			Group: c.query.Get("group"), Cursor: p.after, Limit: p.limit,
		}
		if q.Since, err = c.instant("since"); err != nil {
			return nil, err
		}
		if q.Until, err = c.instant("until"); err != nil {
			return nil, err
		}
		out, err := ask(s.deps.Archived, c.ctx, q)
		if err != nil {
			return nil, s.archiveRefusal(c, err)
		}
		if out.Next != "" {
			out.Next = p.next(out.Next)
		}
		return out, nil
	})
}

// reportMetrics is the report that has to be told of what.
func reportMetrics(s *Server, c *call) (*answer, error) {
	if c.query.Get("name") == "" {
		return nil, refuseParameter("name", "which metric is needed")
	}
	return reporting("metrics", Archived.Metrics)(s, c)
}

// pastRevision returns a revision that the state holds no more: of the archive,
// or err when there is none.
func (s *Server) pastRevision(c *call, n uint64, err error) (*fsm.Revision, error) {
	if s.deps.Archived == nil || n == 0 {
		return nil, err
	}
	r, missing := s.deps.Archived.Revision(c.ctx, c.param("tenant"), c.param("fleet"), n)
	switch {
	case missing == nil:
		return r, nil
	case fsm.CodeOf(missing) == fsm.CodeRevisionNotFound && problemOf(err).Code == wire.CodeFleetNotFound:
		return nil, err
	}
	return nil, s.archiveRefusal(c, missing)
}
