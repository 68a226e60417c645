package api

import (
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// revisionOf returns the fleet's revision n, the current one for 0; nil for a
// fleet without any. What is no more in the state, the fleet itself perhaps, is
// the archive's.
func (s *Server) revisionOf(c *call, st *fsm.State, n uint64) (*fsm.Revision, error) {
	f, err := fleetOf(c, st)
	if err != nil {
		if problemOf(err).Code == wire.CodeFleetNotFound {
			return s.pastRevision(c, n, err)
		}
		return nil, err
	}
	if n == 0 && f.GetRevision() == 0 {
		return nil, nil
	}
	r, ok := st.Revision(f.GetTenant(), f.GetName(), n)
	if !ok {
		err := refuse(wire.CodeRevisionNotFound,
			"fleet %q has no revision %d in memory, it is at %d", f.GetName(), n, f.GetRevision())
		if n > f.GetRevision() {
			return nil, err
		}
		return s.pastRevision(c, n, err)
	}
	return r, nil
}

func (s *Server) resourceJSON(res *fsmpb.Resource) (wire.Resource, error) {
	message, err := s.message(res)
	if err != nil {
		return wire.Resource{}, err
	}
	out := wire.Resource{
		Type: fsm.ShortType(res.GetTypeUrl()), Name: res.GetName(), Version: res.GetVersion(),
		Index: res.GetIndex(), Aliases: res.GetAliases(), Resource: message,
	}
	if ttl := res.GetTtlMs(); ttl > 0 {
		out.TTL = (time.Duration(ttl) * time.Millisecond).String()
	}
	return out, nil
}

// typeParam reads a type that a client names, "" for none.
func typeParam(path, name string) (string, error) {
	if name != "" && !plausibleType(name) {
		p := refuse(wire.CodeUnknownType, "%q is neither a short type nor a type URL", name)
		p.Errors = []wire.FieldError{{Path: path, Detail: p.Detail}}
		return "", p
	}
	if name == "" {
		return "", nil
	}
	return fsm.TypeURL(name), nil
}

// listResources pages through one revision: the cursor holds its number.
func listResources(s *Server, c *call, st *fsm.State) (any, error) {
	url, err := typeParam("query.type", c.query.Get("type"))
	if err != nil {
		return nil, err
	}
	n, err := c.number("revision")
	if err != nil {
		return nil, err
	}
	p, err := c.page("resources")
	if err != nil {
		return nil, err
	}
	number, after, _ := strings.Cut(p.after, "\x00")
	if paged, err := strconv.ParseUint(number, 10, 64); err == nil && n == 0 {
		n = paged
	}
	rev, err := s.revisionOf(c, st, n)
	if err != nil {
		return nil, err
	}
	key := func(res *fsmpb.Resource) string {
		return fmt.Sprintf("%d\x00%s", rev.Info.GetRevision(), place(res))
	}
	rows, next := take(p, resourcesAfter(rev, url, after), key, nil)
	list := wire.List[wire.Resource]{Items: make([]wire.Resource, len(rows)), Next: next}
	for i, res := range rows {
		if list.Items[i], err = s.resourceJSON(res); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// place orders a revision's resources by type and name.
func place(res *fsmpb.Resource) string { return res.GetTypeUrl() + "\x00" + res.GetName() }

// resourcesAfter yields a revision's resources of one type, of all for "",
// that lie after a place.
func resourcesAfter(rev *fsm.Revision, url, after string) iter.Seq[*fsmpb.Resource] {
	afterURL, _, _ := strings.Cut(after, "\x00")
	return func(yield func(*fsmpb.Resource) bool) {
		for _, t := range rev.Types() {
			if url != "" && t != url || t < afterURL {
				continue
			}
			for res := range rev.Resources(t) {
				if place(res) > after && !yield(res) {
					return
				}
			}
		}
	}
}

func getResource(s *Server, c *call, st *fsm.State) (any, error) {
	url, err := typeParam("path.type", c.param("type"))
	if err != nil {
		return nil, err
	}
	n, err := c.number("revision")
	if err != nil {
		return nil, err
	}
	rev, err := s.revisionOf(c, st, n)
	if err != nil {
		return nil, err
	}
	res, ok := rev.Resource(url, c.param("name"))
	if !ok {
		return nil, refuse(wire.CodeResourceNotFound, "fleet %q has no %s %q",
			c.param("fleet"), fsm.ShortType(url), c.param("name"))
	}
	return s.resourceJSON(res)
}
