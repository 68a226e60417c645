package fsm

import (
	"cmp"
	"slices"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// reportProxies takes a node's batch unless it, or a newer one, was taken
// before.
func (t *transition) reportProxies(c *fsmpb.ReportProxies) (*fsmpb.Result, *Error) {
	if c.GetNode() == "" {
		return nil, Refusal(CodeInvalid, "a report needs a node")
	}
	last, known := t.NodeStart(c.Node)
	if known && (c.NodeStart < last.Start || c.NodeStart == last.Start && c.Batch <= last.Batch) {
		return unchanged(), nil
	}
	if known && c.NodeStart > last.Start {
		t.dropStreams(c.Node, last.Start)
	}
	t.nodes, _, _ = t.nodes.Insert(key(c.Node),
		&fsmpb.NodeStart{Node: c.Node, Start: c.NodeStart, Batch: c.Batch})
	for _, r := range c.Reports {
		stream := &fsmpb.Stream{Node: c.Node, NodeStart: c.NodeStart, Number: r.GetStream()}
		switch report := r.GetReport().(type) {
		case *fsmpb.ProxyReport_Connected_:
			t.proxyConnected(r, stream, report.Connected)
		case *fsmpb.ProxyReport_Disconnected_:
			t.proxyDisconnected(r.Tenant, r.Id, stream, report.Disconnected.Reason)
		case *fsmpb.ProxyReport_Rejected_:
			t.proxyRejected(r, stream, report.Rejected)
		case *fsmpb.ProxyReport_Recovered_:
			t.proxyRecovered(r, report.Recovered)
		}
	}
	if t.level >= LevelConvergence {
		for _, r := range c.Convergence {
			t.converged(c.Node, r)
		}
	}
	return &fsmpb.Result{}, nil
}

// converged emits how far a node's proxies are with a revision. Nothing of it
// is kept in the state, so that there is nothing to collapse: while the outbox
// has no room for crowds it is left out.
func (t *transition) converged(node string, c *fsmpb.Convergence) {
	if _, known := t.Tenant(c.GetTenant()); !known || t.outbox.proxiesFull() {
		return
	}
	c.Node = node
	t.emit(&fsmpb.Event{Tenant: c.Tenant, Fleet: c.Fleet, Data: &fsmpb.Event_ConvergenceRecorded{ConvergenceRecorded: c}})
}

// compareStreams orders by node, then from older to newer.
func compareStreams(a, b *fsmpb.Stream) int {
	return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.NodeStart, b.NodeStart), cmp.Compare(a.Number, b.Number))
}

// edit returns a copy of a proxy's row that may be modified and given to
// store; the row is new when the proxy is not known.
func (t *transition) edit(tenant, id string) (*fsmpb.Proxy, bool) {
	old, ok := t.Proxy(tenant, id)
	if !ok {
		return &fsmpb.Proxy{Tenant: tenant, Id: id, FirstSeen: t.stamp}, false
	}
	return &fsmpb.Proxy{
		Tenant: old.Tenant, Id: old.Id, Fleet: old.Fleet, Streams: slices.Clone(old.Streams),
		Build: old.Build, Locality: old.Locality, Labels: old.Labels,
		Rejections: slices.Clone(old.Rejections), FirstSeen: old.FirstSeen,
	}, true
}

func (t *transition) store(p *fsmpb.Proxy) {
	p.ChangedAt, p.Index = t.stamp, t.index
	t.proxies, _, _ = t.proxies.Insert(key(p.Tenant, p.Id), p)
}

// transit emits a proxy's event, or notes that the proxy has changed when the
// outbox has no room for crowds.
func (t *transition) transit(p *fsmpb.Proxy, ev *fsmpb.Event) {
	if t.outbox.proxiesFull() {
		t.outbox.collapsed, _, _ = t.outbox.collapsed.Insert(key(p.Tenant, p.Id),
			&fsmpb.ResourceKey{TypeUrl: p.Tenant, Name: p.Id})
		return
	}
	ev.Tenant, ev.Fleet = p.Tenant, p.Fleet
	t.emit(ev)
}

func (t *transition) proxyConnected(r *fsmpb.ProxyReport, s *fsmpb.Stream, c *fsmpb.ProxyReport_Connected) {
	if r.Id == "" {
		return
	}
	p, _ := t.edit(r.Tenant, r.Id)
	if len(p.Streams) == 0 {
		p.Rejections = nil // a new connection is a fresh attempt
	}
	s.Peer, s.Protocol, s.Since = c.Peer, c.Protocol, t.stamp
	i, found := slices.BinarySearchFunc(p.Streams, s, compareStreams)
	if found {
		return
	}
	p.Streams = slices.Insert(p.Streams, i, s)
	p.Fleet, p.Build, p.Locality, p.Labels = c.Fleet, c.Build, c.Locality, c.Labels
	t.store(p)
	t.transit(p, &fsmpb.Event{Data: &fsmpb.Event_ProxyConnected{ProxyConnected: &fsmpb.ProxyConnected{
		Proxy: p.Id, Stream: s, Build: p.Build, Locality: p.Locality, Labels: p.Labels,
	}}})
}

func (t *transition) proxyDisconnected(tenant, id string, s *fsmpb.Stream, reason string) {
	p, known := t.edit(tenant, id)
	i, found := slices.BinarySearchFunc(p.Streams, s, compareStreams)
	if !known || !found {
		return
	}
	s = p.Streams[i]
	p.Streams = slices.Delete(p.Streams, i, i+1)
	t.store(p)
	t.transit(p, &fsmpb.Event{Data: &fsmpb.Event_ProxyDisconnected{ProxyDisconnected: &fsmpb.ProxyDisconnected{
		Proxy: p.Id, Stream: s, Reason: reason, StreamsLeft: uint32(len(p.Streams)),
	}}})
}

func findRejection(rs []*fsmpb.Rejection, url string) (int, bool) {
	return slices.BinarySearchFunc(rs, url, func(r *fsmpb.Rejection, u string) int {
		return cmp.Compare(r.TypeUrl, u)
	})
}

func (t *transition) proxyRejected(r *fsmpb.ProxyReport, s *fsmpb.Stream, c *fsmpb.ProxyReport_Rejected) {
	p, known := t.edit(r.Tenant, r.Id)
	if !known {
		return
	}
	rejection := &fsmpb.Rejection{
		TypeUrl: c.TypeUrl, Version: c.Version, Detail: c.Detail, Revision: c.Revision,
		At: t.stamp, Resources: c.Resources, Stream: s,
	}
	if i, found := findRejection(p.Rejections, c.TypeUrl); found {
		p.Rejections[i] = rejection
	} else {
		p.Rejections = slices.Insert(p.Rejections, i, rejection)
	}
	t.store(p)
	t.transit(p, &fsmpb.Event{Data: &fsmpb.Event_ProxyRejected{
		ProxyRejected: &fsmpb.ProxyRejected{Proxy: p.Id, Rejection: rejection},
	}})
}

func (t *transition) proxyRecovered(r *fsmpb.ProxyReport, c *fsmpb.ProxyReport_Recovered) {
	p, known := t.edit(r.Tenant, r.Id)
	i, found := findRejection(p.Rejections, c.TypeUrl)
	if !known || !found {
		return
	}
	p.Rejections = slices.Delete(p.Rejections, i, i+1)
	t.store(p)
	t.transit(p, &fsmpb.Event{Data: &fsmpb.Event_ProxyRecovered{ProxyRecovered: &fsmpb.ProxyRecovered{
		Proxy: p.Id, TypeUrl: c.TypeUrl, Revision: c.Revision,
	}}})
}

func (t *transition) dropNode(c *fsmpb.DropNode) (*fsmpb.Result, *Error) {
	if t.dropStreams(c.GetNode(), c.GetThroughStart()) == 0 {
		return unchanged(), nil
	}
	return &fsmpb.Result{}, nil
}

// dropStreams ends the streams of a node's starts up to and including one.
func (t *transition) dropStreams(node string, through int64) int {
	n := 0
	for p := range t.AllProxies() { // of the tree as it is now
		for _, s := range p.Streams {
			if s.Node == node && s.NodeStart <= through {
				t.proxyDisconnected(p.Tenant, p.Id, s, "node lost")
				n++
			}
		}
	}
	return n
}

func (t *transition) deleteProxy(c *fsmpb.DeleteProxy) (*fsmpb.Result, *Error) {
	if err := t.needTenant(c.GetTenant()); err != nil {
		return nil, err
	}
	p, ok := t.Proxy(c.Tenant, c.Id)
	if !ok {
		return nil, Refusal(CodeProxyNotFound, "tenant %q has no proxy %q", c.Tenant, c.Id)
	}
	if len(p.Streams) > 0 {
		return nil, Refusal(CodeProxyConnected, "proxy %q is connected", c.Id)
	}
	if err := t.writable(); err != nil {
		return nil, err
	}
	t.proxies, _, _ = t.proxies.Delete(key(c.Tenant, c.Id))
	t.emit(&fsmpb.Event{Tenant: c.Tenant, Fleet: p.Fleet, Data: &fsmpb.Event_ProxyDeleted{
		ProxyDeleted: &fsmpb.ProxyDeleted{Proxy: c.Id},
	}})
	return &fsmpb.Result{}, nil
}

// forgetProxies deletes, in the order of tenants and ids, those that have been
// without a stream for long.
func (t *transition) forgetProxies(c *fsmpb.ForgetProxies) (*fsmpb.Result, *Error) {
	n := uint32(0)
	for p := range t.AllProxies() { // of the tree as it is now
		if n == c.GetLimit() {
			break
		}
		if !away(p, c.GetChangedBefore()) {
			continue
		}
		n++
		t.proxies, _, _ = t.proxies.Delete(key(p.Tenant, p.Id))
		t.transit(p, &fsmpb.Event{Data: &fsmpb.Event_ProxyDeleted{ProxyDeleted: &fsmpb.ProxyDeleted{Proxy: p.Id}}})
	}
	if n == 0 {
		return unchanged(), nil
	}
	return &fsmpb.Result{}, nil
}

// away reports whether a proxy has had no stream since before a log time.
func away(p *fsmpb.Proxy, before int64) bool { return len(p.Streams) == 0 && p.ChangedAt < before }
