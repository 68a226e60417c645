package api

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

const (
	// maxStatusWait is the longest wait that a status may ask for.
	maxStatusWait = 5 * time.Minute
	// maxGather bounds one question to all nodes.
	maxGather = 5 * time.Second
	// maxRejections bounds how many an answer tells in full.
	maxRejections = 1000
)

// fleetStatus says how far a fleet is with a revision; asked to wait, when
// all connected proxies are synced, one rejects, or time is up.
func fleetStatus(s *Server, c *call, st *fsm.State) (any, error) {
	wait, err := c.duration("wait", maxStatusWait)
	if err != nil {
		return nil, err
	}
	n, err := c.number("revision")
	if err != nil {
		return nil, err
	}
	f, err := fleetOf(c, st)
	if err != nil {
		return nil, err
	}
	switch {
	case n > f.GetRevision():
		return nil, refuse(wire.CodeRevisionNotFound, "fleet %q is at revision %d", f.GetName(), f.GetRevision())
	case n == 0:
		n = f.GetRevision()
	}
	w := &watch{s: s, until: time.Now().Add(wait), target: target{f.GetTenant(), f.GetName(), n}}
	if wait > 0 {
		c.bound(wait + s.cfg.RequestLimit)
	}
	return w.run(c.ctx)
}

// target is a revision that a fleet's proxies are to reach.
type target struct {
	tenant, fleet string
	revision      uint64
}

// watch follows a fleet's proxies towards a revision.
type watch struct {
	s *Server
	target
	until time.Time
}

// run looks again and again until there is something to say.
func (w *watch) run(ctx context.Context) (any, error) {
	for {
		began := time.Now()
		status, err := w.s.statuses.do(ctx, w.target, w.look)
		if err != nil {
			return nil, err
		}
		left := time.Until(w.until)
		if status.Converged || status.Proxies.Rejected > 0 || left <= 0 {
			return status, nil
		}
		// A fleet that is costly to ask about is asked less often.
		pause := max(w.s.cfg.DefaultPoll, 2*time.Since(began))
		select {
		case <-time.After(min(pause, left, maxGather)):
		case <-w.s.draining:
			return nil, refuse(wire.CodeUnavailable, "the node is stopping; ask another one")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if _, ok := w.s.deps.Cluster.State().Fleet(w.tenant, w.fleet); !ok {
			return nil, refuse(wire.CodeFleetNotFound, "fleet %q was deleted meanwhile", w.fleet)
		}
	}
}

// look asks all nodes once and puts their answers together with the rows of
// the state.
func (w *watch) look(ctx context.Context) wire.FleetStatus {
	st := w.s.deps.Cluster.State()
	answers, failed := w.s.gather(ctx, &fsmpb.Query{Query: &fsmpb.Query_Fleet{Fleet: &fsmpb.FleetQuery{
		Tenant: w.tenant, Fleet: w.fleet, Revision: w.revision, MinIndex: st.Index(),
	}}})
	live := map[string]*fsmpb.ProxySync{}
	for _, a := range answers {
		for _, p := range a.GetFleet().GetProxies() {
			live[p.GetProxy()] = worse(live[p.GetProxy()], p)
		}
	}
	return w.sum(st, live, missing(failed))
}

// worse returns what counts of a proxy with streams on two nodes.
func worse(a, b *fsmpb.ProxySync) *fsmpb.ProxySync {
	rank := func(p *fsmpb.ProxySync) int {
		switch p.GetState() {
		case fsmpb.ProxySync_REJECTED:
			return 3
		case fsmpb.ProxySync_SYNCED:
			return 1
		default:
			return 2
		}
	}
	if a == nil || rank(b) > rank(a) || rank(b) == rank(a) && b.GetRevision() < a.GetRevision() {
		return b
	}
	return a
}

func missing(failed map[string]error) []wire.MissingNode {
	var out []wire.MissingNode
	for _, node := range slices.Sorted(maps.Keys(failed)) {
		out = append(out, wire.MissingNode{Node: node, Reason: failed[node].Error()})
	}
	return out
}

// sum counts the proxies. One that the state holds for connected and that no
// node tells of is pending: its node does not answer, or its end is not
// reported yet.
func (w *watch) sum(st *fsm.State, live map[string]*fsmpb.ProxySync, missing []wire.MissingNode) wire.FleetStatus {
	out := wire.FleetStatus{
		Tenant: w.tenant, Fleet: w.fleet, Revision: w.revision,
		Rejections: []wire.Rejection{}, Missing: missing,
	}
	for p := range st.Proxies(out.Tenant, "") {
		if _, told := live[p.GetId()]; told || p.GetFleet() != out.Fleet {
			continue
		}
		if len(p.GetStreams()) == 0 {
			out.Proxies.Disconnected++
			continue
		}
		live[p.GetId()] = &fsmpb.ProxySync{
			Proxy: p.GetId(), State: fsmpb.ProxySync_PENDING,
			WaitingFor: "word from node " + p.GetStreams()[len(p.GetStreams())-1].GetNode(),
		}
	}
	for _, id := range slices.Sorted(maps.Keys(live)) {
		tally(&out, live[id])
	}
	out.Proxies.Connected = len(live)
	out.Converged = out.Proxies.Synced == len(live) && len(missing) == 0
	return out
}

// tally counts one connected proxy.
func tally(out *wire.FleetStatus, p *fsmpb.ProxySync) {
	switch p.GetState() {
	case fsmpb.ProxySync_SYNCED:
		out.Proxies.Synced++
	case fsmpb.ProxySync_REJECTED:
		if out.Proxies.Rejected++; len(out.Rejections) < maxRejections {
			out.Rejections = append(out.Rejections, wire.Rejection{
				Proxy: p.GetProxy(), Type: fsm.ShortType(p.GetRejectedType()), Detail: p.GetRejectedDetail(),
			})
		}
	default:
		if out.Proxies.Pending++; len(out.Pending) < maxNamed {
			out.Pending = append(out.Pending, wire.PendingProxy{
				Proxy: p.GetProxy(), Revision: p.GetRevision(), WaitingFor: p.GetWaitingFor(),
			})
		}
	}
}
