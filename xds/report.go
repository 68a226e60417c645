package xds

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Bounds of a batch, and of what waits for one before reports of a stream
// begin to replace each other.
const (
	maxBatchReports  = 500
	maxBatchBytes    = 1 << 20
	maxRejectedNames = 256
	maxRejectedBytes = 16 << 10 // of those names
	collapseAbove    = 2000
)

// reporter collects what streams go through and proposes it in batches.
type reporter struct {
	config  Config
	deps    Deps
	metrics *metrics
	// state is the newest applied one.
	state atomic.Pointer[fsm.State]

	mu    sync.Mutex
	queue []*report
	// dropped counts the entries of the queue that were replaced.
	dropped int
	// live holds the registrations of the open streams, to make them again
	// should the cluster have dropped them.
	live map[uint64]*fsmpb.ProxyReport
	// alive counts the open streams of each proxy, held has the ends of others
	// that are not reported yet.
	alive map[proxyKey]int
	held  map[proxyKey][]*fsmpb.ProxyReport
	// waiting holds, by stream, the reports in the queue.
	waiting map[uint64][]*report
	// flying are the streams with reports in the batch being proposed.
	flying map[uint64]struct{}
	paces  map[proxyKey]*pace
	batch  uint64
	signal chan struct{} // capacity 1
	// summaries of revisions' spreads wait here.
	summaries []*fsmpb.Convergence
}

// report is one entry of the queue; a dropped one was replaced.
type report struct {
	*fsmpb.ProxyReport
	dropped bool
}

func newReporter(c Config, d Deps, m *metrics) *reporter {
	return &reporter{
		config: c, deps: d, metrics: m,
		live: map[uint64]*fsmpb.ProxyReport{}, alive: map[proxyKey]int{}, held: map[proxyKey][]*fsmpb.ProxyReport{},
		waiting: map[uint64][]*report{},
		flying:  map[uint64]struct{}{}, paces: map[proxyKey]*pace{}, signal: make(chan struct{}, 1),
	}
}

func (r *reporter) connected(st *stream, h *hello) {
	p := reportOf(st)
	p.Report = &fsmpb.ProxyReport_Connected_{Connected: &fsmpb.ProxyReport_Connected{
		Fleet: st.id.Fleet, Peer: st.peer, Protocol: st.protocol.String(),
		Build: h.build, Locality: h.locality, Labels: h.labels,
	}}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live[st.number] = p
	key := proxyKey{p.Tenant, p.Id}
	r.alive[key]++
	r.push(p)
	r.let(key, nil) // behind the connect, so that the proxy is never without a stream
}

func (r *reporter) disconnected(st *stream, reason string) {
	p := reportOf(st)
	p.Report = &fsmpb.ProxyReport_Disconnected_{Disconnected: &fsmpb.ProxyReport_Disconnected{Reason: reason}}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.live, st.number)
	key := proxyKey{p.Tenant, p.Id}
	if r.alive[key]--; r.alive[key] == 0 {
		delete(r.alive, key)
	}
	if len(r.queue) > collapseAbove {
		if r.drop(st.number, func(*fsmpb.ProxyReport) bool { return true }) {
			return // it was never registered
		}
	}
	if !r.hold(p) {
		r.push(p)
	}
}

// rejected reports whether the rejection is reported now; a proxy that rejects
// all the time is slowed down, and types without end are not taken down.
func (r *reporter) rejected(st *stream, k *kind, f *frame, revision uint64, detail string) bool {
	p := reportOf(st)
	p.Report = &fsmpb.ProxyReport_Rejected_{Rejected: &fsmpb.ProxyReport_Rejected{
		TypeUrl: k.url, Version: firstText(f.version), Detail: detail, Revision: revision,
		Resources: firstNames(f.names()),
	}}
	if known := r.rejections(st); len(known) >= maxTypes && !rejects(known, k.url) {
		return false
	}
	return r.verdict(st.number, k, p)
}

// firstNames returns as many names as are kept of a rejection.
func firstNames(names []string) []string {
	size := 0
	for i, name := range names {
		if size += len(name); i == maxRejectedNames || size > maxRejectedBytes {
			return names[:i]
		}
	}
	return names
}

func (r *reporter) recovered(st *stream, k *kind, revision uint64) {
	p := reportOf(st)
	p.Report = &fsmpb.ProxyReport_Recovered_{Recovered: &fsmpb.ProxyReport_Recovered{
		TypeUrl: k.url, Revision: revision,
	}}
	r.verdict(st.number, k, p)
}

// recoverStale reports a recovery when the state still knows a rejection of
// the type, by an earlier stream of the proxy.
func (r *reporter) recoverStale(st *stream, k *kind, revision uint64) {
	if rejects(r.rejections(st), k.url) {
		r.recovered(st, k, revision)
	}
}

// rejections returns those that the state has of a stream's proxy.
func (r *reporter) rejections(st *stream) []*fsmpb.Rejection {
	return r.row(st.id.Tenant, st.id.Proxy).GetRejections()
}

// row returns what the state has of a proxy, nil for nothing.
func (r *reporter) row(tenant, id string) *fsmpb.Proxy {
	state := r.state.Load()
	if state == nil {
		return nil
	}
	p, _ := state.Proxy(tenant, id)
	return p
}

func rejects(known []*fsmpb.Rejection, url string) bool {
	return slices.ContainsFunc(known, func(x *fsmpb.Rejection) bool { return x.TypeUrl == url })
}

// verdict queues a rejection or recovery. In a backlog only the last one of a
// type stays.
func (r *reporter) verdict(stream uint64, k *kind, p *fsmpb.ProxyReport) bool {
	if r.deps.Cluster == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.admit(k.url, p, time.Now()) {
		return false
	}
	if len(r.queue) > collapseAbove {
		r.drop(stream, func(old *fsmpb.ProxyReport) bool {
			return old.GetRejected().GetTypeUrl() == k.url || old.GetRecovered().GetTypeUrl() == k.url
		})
	}
	r.push(p)
	return true
}

func reportOf(st *stream) *fsmpb.ProxyReport {
	return &fsmpb.ProxyReport{Tenant: st.id.Tenant, Id: st.id.Proxy, Stream: st.number}
}

// push queues a report; r.mu is held.
func (r *reporter) push(p *fsmpb.ProxyReport) {
	if r.deps.Cluster == nil {
		return
	}
	e := &report{ProxyReport: p}
	r.queue = append(r.queue, e)
	r.waiting[p.Stream] = append(r.waiting[p.Stream], e)
	select {
	case r.signal <- struct{}{}:
	default:
	}
}

// drop removes waiting reports of a stream and says whether its registration
// was among them; r.mu is held.
func (r *reporter) drop(stream uint64, which func(*fsmpb.ProxyReport) bool) bool {
	connect := false
	r.waiting[stream] = slices.DeleteFunc(r.waiting[stream], func(e *report) bool {
		if !which(e.ProxyReport) {
			return false
		}
		e.dropped = true
		r.dropped++
		connect = connect || e.GetConnected() != nil
		r.metrics.reports.WithLabelValues("collapsed").Inc()
		return true
	})
	if len(r.waiting[stream]) == 0 {
		delete(r.waiting, stream)
	}
	if 2*r.dropped > len(r.queue) {
		r.queue = slices.DeleteFunc(r.queue, func(e *report) bool { return e.dropped })
		r.dropped = 0
	}
	return connect
}

// take removes the next batch from the queue, nil when there is none.
func (r *reporter) take() []*fsmpb.ProxyReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	var batch []*fsmpb.ProxyReport
	size, n := 0, 0
	for _, e := range r.queue {
		if !e.dropped {
			size += proto.Size(e.ProxyReport)
			if len(batch) == maxBatchReports || len(batch) > 0 && size > maxBatchBytes {
				break
			}
			batch = append(batch, e.ProxyReport)
			r.flying[e.Stream] = struct{}{}
			r.waiting[e.Stream] = r.waiting[e.Stream][1:]
			if len(r.waiting[e.Stream]) == 0 {
				delete(r.waiting, e.Stream)
			}
		}
		if e.dropped {
			r.dropped--
		}
		n++
	}
	r.queue = slices.Delete(r.queue, 0, n)
	if len(r.queue) == 0 {
		r.queue = nil
	}
	return batch
}

// landed notes that the batch was applied.
func (r *reporter) landed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.flying)
}

func (r *reporter) idle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.queue) == 0 && len(r.flying) == 0 && len(r.summaries) == 0
}

// observe looks for open streams of this process that the cluster took for
// lost: they are registered again. And for proxies that have come to another
// node: their ends here are reported. It is called while entries are applied.
func (r *reporter) observe(st *fsm.State, events []*fsmpb.Event) {
	r.state.Store(st)
	for _, e := range events {
		if c := e.GetProxyConnected(); c != nil && c.GetStream().GetNode() != r.config.NodeID {
			r.mu.Lock()
			r.let(proxyKey{e.Tenant, c.Proxy}, nil) // it has come back, to another node
			r.mu.Unlock()
		}
		s := e.GetProxyDisconnected().GetStream()
		if s == nil || s.Node != r.config.NodeID || s.NodeStart != r.config.NodeStart {
			continue
		}
		r.mu.Lock()
		if p, ok := r.live[s.Number]; ok {
			r.push(p)
		}
		r.mu.Unlock()
	}
}

// compare registers the open streams that a state does not have, after a
// state that came whole.
func (r *reporter) compare(st *fsm.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for number, p := range r.live {
		_, flies := r.flying[number]
		if len(r.waiting[number]) > 0 || flies || registered(st, r.config, p) {
			continue
		}
		r.push(p)
	}
}

func registered(st *fsm.State, c Config, p *fsmpb.ProxyReport) bool {
	row, ok := st.Proxy(p.Tenant, p.Id)
	return ok && slices.ContainsFunc(row.Streams, func(s *fsmpb.Stream) bool {
		return s.Node == c.NodeID && s.NodeStart == c.NodeStart && s.Number == p.Stream
	})
}
