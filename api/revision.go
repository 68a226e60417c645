package api

import (
	"strconv"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// instantJSON turns log time into a time, the zero time for none.
func instantJSON(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

func revisionJSON(info *fsmpb.Revision) wire.Revision {
	return wire.Revision{
		Revision: info.GetRevision(), Index: info.GetIndex(), At: instantJSON(info.GetAt()),
		By: info.GetBy(), Message: info.GetMessage(), Changed: changesJSON(info.GetChanged()),
		RollbackOf: info.GetRollbackOf(),
	}
}

// listRevisions shows what is in memory, newest first.
func listRevisions(_ *Server, c *call, st *fsm.State) (any, error) {
	f, err := fleetOf(c, st)
	if err != nil {
		return nil, err
	}
	p, err := c.page("revisions")
	if err != nil {
		return nil, err
	}
	before, _ := strconv.ParseUint(p.after, 10, 64) // "" is from the newest
	key := func(r *fsm.Revision) string { return strconv.FormatUint(r.Info.GetRevision(), 10) }
	return paged(p, st.Revisions(f.GetTenant(), f.GetName(), before), key, nil,
		func(r *fsm.Revision) wire.Revision { return revisionJSON(r.Info) }), nil
}

// revisionParam returns the revision that the path names.
func (s *Server) revisionParam(c *call, st *fsm.State) (*fsm.Revision, error) {
	n, _ := strconv.ParseUint(c.param("revision"), 10, 64) // checkNames has
	return s.revisionOf(c, st, n)
}

func getRevision(s *Server, c *call, st *fsm.State) (any, error) {
	rev, err := s.revisionParam(c, st)
	if err != nil {
		return nil, err
	}
	out := revisionJSON(rev.Info)
	out.Resources = map[string]int{}
	for _, url := range rev.Types() {
		out.Resources[fsm.ShortType(url)] = rev.Len(url)
	}
	return out, nil
}

// diffRevisions compares with the revision before, unless from names another;
// 0 is the empty fleet.
func diffRevisions(s *Server, c *call, st *fsm.State) (any, error) {
	content, err := c.flag("content")
	if err != nil {
		return nil, err
	}
	to, err := s.revisionParam(c, st)
	if err != nil {
		return nil, err
	}
	n := to.Info.GetRevision() - 1
	if c.query.Has("from") {
		if n, err = c.number("from"); err != nil {
			return nil, err
		}
	}
	var from *fsm.Revision
	if n > 0 {
		if from, err = s.revisionOf(c, st, n); err != nil {
			return nil, err
		}
	}
	changes := fsm.Diff(from, to)
	out := wire.Diff{From: n, To: to.Info.GetRevision(), Changed: changesJSON(changes)}
	if content {
		if err := s.fill(out.Changed, changes, from, to); err != nil {
			return nil, err
		}
	}
	return out, nil
}
