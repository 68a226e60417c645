package xds

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"
	"sync"
	"testing/synctest"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm"
)

// pipe is a stream without a connection.
type pipe struct {
	codec codec
	ctx   context.Context
	in    chan []byte

	mu   sync.Mutex
	sent [][]byte
}

func (p *pipe) SendMsg(v any) error {
	s, err := p.codec.Marshal(v)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = append(p.sent, s.Materialize())
	return p.ctx.Err()
}

func (p *pipe) RecvMsg(v any) error {
	select {
	case b := <-p.in:
		return p.codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, v)
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

func (p *pipe) Context() context.Context     { return p.ctx }
func (p *pipe) SetHeader(metadata.MD) error  { return nil }
func (p *pipe) SendHeader(metadata.MD) error { return nil }
func (p *pipe) SetTrailer(metadata.MD)       {}

var _ grpc.ServerStream = (*pipe)(nil)

// modelPeer is a client of one stream at a time: an aggregated one, or one of a
// single service. It does what Envoy does with what it gets.
type modelPeer struct {
	m        *model
	name     string
	protocol protocol
	only     string
	byName   bool // asks for clusters and routes by name, now and then for others
	node     int
	seen     uint64 // index of the newest state that it may have had something of

	pipe  *pipe
	end   func()
	inbox []*response // that it has not looked at

	subs  map[string]*wish
	done  chan error
	asked map[string]bool // types asked for on this stream
	// named types were given names, or a star, on this stream.
	named map[string]bool
	nonce map[string]string
	// ever are the names that it was sent or asked for, by type and name.
	ever map[string]bool

	have     map[string]map[string]string // applied: bodies by type and name
	good     map[string]map[string]string // the same as of the last accepted response
	versions map[string]map[string]string // accepted, delta
	accepted map[string]string            // version_info, state of the world
	expires  map[string]time.Time         // by type and name
}

// wish is what a client wants of a type.
type wish struct {
	all   bool
	names []string
}

func newPeer(m *model, name string, p protocol, only string) *modelPeer {
	c := &modelPeer{m: m, name: name, protocol: p, only: only, end: func() {}}
	c.subs = map[string]*wish{
		fsm.TypeCluster: {all: true}, fsm.TypeListener: {all: true}, fsm.TypeEndpoints: {}, fsm.TypeRoute: {names: []string{"r", "s"}},
	}
	if only == fsm.TypeEndpoints {
		c.subs[only].names = []string{"a", "x"}
	}
	c.ever, c.accepted, c.expires = map[string]bool{}, map[string]string{}, map[string]time.Time{}
	c.have, c.good, c.versions = map[string]map[string]string{}, map[string]map[string]string{}, map[string]map[string]string{}
	for _, url := range modelTypes {
		c.have[url], c.good[url], c.versions[url] = map[string]string{}, map[string]string{}, map[string]string{}
	}
	return c
}

var modelTypes = []string{fsm.TypeCluster, fsm.TypeEndpoints, fsm.TypeListener, fsm.TypeRoute}

func (p *modelPeer) types() []string {
	if p.only != "" {
		return []string{p.only}
	}
	return modelTypes
}

func (p *modelPeer) wants(url, name string) bool {
	return p.subs[url].all || slices.Contains(p.subs[url].names, name)
}

func (p *modelPeer) disconnect() {
	p.end()
	p.end = func() {}
}

// connect begins a stream, with what the client accepted on the one before,
// on a node that has what the client may have seen: it is ready.
func (p *modelPeer) connect(node int) {
	p.disconnect()
	n := p.m.nodes[node]
	for n.state == nil || n.state.Index() < p.seen {
		p.m.catchUp(n, 1)
	}
	p.m.note("%s connects to node %d at %d", p.name, node, n.state.Index())
	ctx, cancel := context.WithCancel(context.Background())
	pipe := &pipe{codec: newCodec(), ctx: ctx, in: make(chan []byte)}
	p.node, p.pipe, p.inbox, p.done = node, pipe, nil, make(chan error, 1)
	p.asked, p.named, p.nonce = map[string]bool{}, map[string]bool{}, map[string]string{}
	go func() { p.done <- n.server.serve(pipe, p.protocol, p.only) }()
	p.end = func() {
		cancel()
		if err := <-p.done; err != nil && ctx.Err() == nil {
			p.m.fail("%s: stream ended with %v", p.name, err)
		}
	}

	for _, url := range p.types() {
		// What it may have of a rejected response it cannot tell a new stream.
		p.have[url] = maps.Clone(p.good[url])
		maps.DeleteFunc(p.have[url], func(name, _ string) bool { return !p.wants(url, name) })
	}
	order := slices.Clone(p.types())
	if p.m.rejects || p.accepted[fsm.TypeRoute] != "" || len(p.versions[fsm.TypeRoute]) > 0 { // else as Envoy does, clusters first
		p.m.rnd.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	}
	for _, url := range order {
		if w := p.subs[url]; !w.all && len(w.names) == 0 {
			continue
		}
		p.begin(url)
	}
}

// list is how the client spells a wish; a wildcard in one of two notations.
func (p *modelPeer) list(url string) []string {
	w := p.subs[url]
	if w.all && (len(w.names) > 0 || p.m.rnd.IntN(2) == 0 && !p.asked[url]) {
		return append([]string{"*"}, w.names...)
	}
	return slices.Clone(w.names)
}

func (p *modelPeer) begin(url string) {
	p.expect(url)
	names := p.list(url)
	p.asked[url], p.named[url] = true, len(names) > 0
	if p.protocol == delta {
		p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: url, ResourceNamesSubscribe: names, InitialResourceVersions: maps.Clone(p.versions[url])})
	} else {
		p.send(&discoveryv3.DiscoveryRequest{TypeUrl: url, ResourceNames: names, VersionInfo: p.accepted[url]})
	}
}

// expect notes that responses may speak of what the client wants.
func (p *modelPeer) expect(url string) {
	for _, name := range p.subs[url].names {
		p.ever[url+" "+name] = true
	}
	p.ever[url] = p.ever[url] || p.subs[url].all
}

func (p *modelPeer) send(m proto.Message) {
	n := node("p", "web", "")
	if p.m.ttl {
		n.ClientFeatures = []string{featureTTL, featureWrapped}
	}
	switch m := m.(type) {
	case *discoveryv3.DiscoveryRequest:
		m.Node = n
	case *discoveryv3.DeltaDiscoveryRequest:
		m.Node = n
	}
	select {
	case p.pipe.in <- marshal(p.m.t, m):
	case err := <-p.done:
		p.done <- err
		p.m.fail("%s: stream ended with %v", p.name, err)
	}
	synctest.Wait()
}

// unread are the responses that the client has not looked at.
func (p *modelPeer) unread() []*response {
	p.pipe.mu.Lock()
	defer p.pipe.mu.Unlock()
	for _, b := range p.pipe.sent {
		p.inbox = append(p.inbox, p.decode(b))
	}
	p.pipe.sent = nil
	return p.inbox
}

func (p *modelPeer) next() *response {
	if left := p.unread(); len(left) > 0 {
		return left[0]
	}
	return nil
}

// step is what the client does with the next response.
func (p *modelPeer) step() bool {
	r := p.next()
	if r == nil {
		return false
	}
	p.inbox = p.inbox[1:]
	p.seen = max(p.seen, p.m.nodes[p.node].state.Index())
	bad := p.m.rejects && r.has(badTimeout)
	p.m.note("%s reads %s, bad %v", p.name, r, bad)
	p.checkSpoken(r)
	if !bad {
		p.apply(r, func() bool { return true })
		p.note(r)
	} else if p.m.partial {
		p.apply(r, func() bool { return p.m.rnd.IntN(2) == 0 })
	}
	p.nonce[r.url] = r.nonce
	p.answer(r, bad)
	if r.url == fsm.TypeCluster && p.only == "" {
		p.follow()
	}
	if p.ordered() {
		p.checkRoutes()
	}
	return true
}

func (p *modelPeer) answer(r *response, bad bool) {
	var detail *statuspb.Status
	if bad {
		detail = &statuspb.Status{Code: 3, Message: "bad"}
	}
	if p.protocol == delta {
		p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.url, ResponseNonce: r.nonce, ErrorDetail: detail})
		return
	}
	p.send(&discoveryv3.DiscoveryRequest{
		TypeUrl: r.url, ResponseNonce: r.nonce, ErrorDetail: detail, VersionInfo: p.accepted[r.url], ResourceNames: p.repeat(r.url),
	})
}

// repeat is the list of names of a state-of-the-world request that is not the
// first: the wildcard without a star goes on only while there were no names.
func (p *modelPeer) repeat(url string) []string {
	w := p.subs[url]
	if w.all && p.named[url] {
		return append([]string{"*"}, w.names...)
	}
	return slices.Clone(w.names)
}

// note records what the client accepted.
func (p *modelPeer) note(r *response) {
	p.accepted[r.url], p.good[r.url] = r.version, maps.Clone(p.have[r.url])
	for name, version := range r.versions {
		if p.have[r.url][name] != "" {
			p.versions[r.url][name] = version
		}
	}
	for _, name := range r.removed {
		delete(p.versions[r.url], name)
	}
	for _, name := range r.names {
		delete(p.expires, r.url+" "+name)
		if ttl := r.ttls[name]; ttl > 0 && p.have[r.url][name] != "" {
			p.expires[r.url+" "+name] = time.Now().Add(ttl)
		}
	}
}

func (p *modelPeer) decode(b []byte) *response {
	r := &response{bodies: map[string]proto.Message{}, versions: map[string]string{}, ttls: map[string]time.Duration{}}
	if p.protocol == stateOfTheWorld {
		x := &discoveryv3.DiscoveryResponse{}
		check(p.m.t, proto.Unmarshal(b, x))
		r.url, r.nonce, r.version = x.TypeUrl, x.Nonce, x.VersionInfo
		for _, a := range x.Resources {
			r.add("", a)
		}
		return r
	}
	x := &discoveryv3.DeltaDiscoveryResponse{}
	check(p.m.t, proto.Unmarshal(b, x))
	r.url, r.nonce, r.removed = x.TypeUrl, x.Nonce, x.RemovedResources
	for _, a := range x.Resources {
		if a.Ttl != nil {
			r.ttls[a.Name] = a.Ttl.AsDuration()
		}
		r.versions[a.Name] = a.Version
		if a.Resource == nil {
			r.names = append(r.names, a.Name)
			continue
		}
		r.add(a.Name, a.Resource)
	}
	return r
}

func (r *response) has(timeout int64) bool {
	for _, b := range r.bodies {
		if c, ok := b.(*clusterv3.Cluster); ok && c.ConnectTimeout.GetSeconds() == timeout {
			return true
		}
	}
	return false
}

// apply does what Envoy does with a response; take decides for each piece of
// a rejected one. What is bad is never taken.
func (p *modelPeer) apply(r *response, take func() bool) {
	have := p.have[r.url]
	whole := p.protocol == stateOfTheWorld && (r.url == fsm.TypeCluster || r.url == fsm.TypeListener)
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if (whole && r.bodies[name] == nil || slices.Contains(r.removed, name)) && take() {
			delete(have, name)
			delete(p.expires, r.url+" "+name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.bodies)) {
		b := r.bodies[name]
		if !p.wants(r.url, name) {
			continue // unsubscribed from while it was on its way
		}
		if p.m.rejects && (&response{bodies: map[string]proto.Message{"": b}}).has(badTimeout) {
			continue
		}
		if take() {
			body := string(marshal(p.m.t, b))
			p.checkForward(r.url, name, have[name], body)
			have[name] = body
		}
	}
}

// follow subscribes to the endpoints of the clusters that the client has.
func (p *modelPeer) follow() {
	p.want(fsm.TypeEndpoints, &wish{names: slices.Sorted(maps.Keys(p.have[fsm.TypeCluster]))})
}

// resubscribe changes what the client wants by name.
func (p *modelPeer) resubscribe() {
	var names []string
	pool := []string{"a", "b", "c", "d", "x"}
	url := fsm.TypeCluster
	if p.only == fsm.TypeEndpoints {
		url = p.only
	}
	for _, name := range pool {
		if p.m.rnd.IntN(3) == 0 {
			names = append(names, name)
		}
	}
	w := &wish{names: names, all: url == fsm.TypeCluster && p.m.rnd.IntN(2) == 0}
	if (p.protocol == stateOfTheWorld || p.only == "") && len(names) == 0 {
		w.names = []string{"x"} // an empty list may be a wildcard's; without clusters others wait for the gate's timeout
	}
	p.want(url, w)
}

// want changes a subscription. What is not wanted any more is forgotten.
func (p *modelPeer) want(url string, w *wish) {
	old := p.subs[url]
	if slices.Equal(old.names, w.names) && old.all == w.all {
		return
	}
	p.subs[url] = w
	for name := range p.have[url] {
		if !p.wants(url, name) {
			p.accepted[url] = "" // it would claim what it forgets
			delete(p.have[url], name)
			delete(p.good[url], name)
			delete(p.versions[url], name)
			delete(p.expires, url+" "+name)
		}
	}
	if !p.asked[url] {
		if w.all || len(w.names) > 0 {
			p.m.note("%s asks for %s %v %v", p.name, fsm.ShortType(url), w.all, w.names)
			p.begin(url)
		}
		return
	}
	p.m.note("%s asks for %s %v %v after %v %v", p.name, fsm.ShortType(url), w.all, w.names, old.all, old.names)
	p.expect(url)
	if p.protocol == delta {
		r := &discoveryv3.DeltaDiscoveryRequest{
			TypeUrl: url, ResourceNamesSubscribe: without(w.names, old.names), ResourceNamesUnsubscribe: without(old.names, w.names),
		}
		if w.all && !old.all {
			r.ResourceNamesSubscribe = append(r.ResourceNamesSubscribe, "*")
		}
		if old.all && !w.all {
			r.ResourceNamesUnsubscribe = append(r.ResourceNamesUnsubscribe, "*")
		}
		p.send(r)
		return
	}
	p.named[url] = true
	p.send(&discoveryv3.DiscoveryRequest{TypeUrl: url, ResourceNames: p.repeat(url), VersionInfo: p.accepted[url], ResponseNonce: p.nonce[url]})
}

// ordered streams are promised make before break.
func (p *modelPeer) ordered() bool {
	return p.only == "" && !p.m.rejects && !p.m.slow && !p.byName
}

// checkRoutes holds the promise of make before break.
func (p *modelPeer) checkRoutes() {
	for name, body := range p.have[fsm.TypeRoute] {
		r := &routev3.RouteConfiguration{}
		check(p.m.t, proto.Unmarshal([]byte(body), r))
		if to := r.VirtualHosts[0].Name; p.have[fsm.TypeCluster][to] == "" {
			p.m.fail("%s: route %s leads to cluster %s, which it does not have", p.name, name, to)
		}
	}
}

// checkOneEach: of each type at most one response is without an answer.
func (p *modelPeer) checkOneEach() {
	seen := map[string]int{}
	for _, r := range p.unread() {
		if seen[r.url]++; seen[r.url] > 1 {
			p.m.fail("%s: two responses of %s under way", p.name, r.url)
		}
	}
}

// checkSpoken: a response is of a type that was asked for, and speaks only of
// names that were asked for or sent.
func (p *modelPeer) checkSpoken(r *response) {
	p.checkHeartbeat(r)
	if !p.asked[r.url] {
		p.m.fail("%s was never asked for: %s", p.name, r)
	}
	for _, name := range r.names {
		if !p.ever[r.url] && !p.ever[r.url+" "+name] {
			p.m.fail("%s never asked for what it is sent: %s", p.name, r)
		}
		p.ever[r.url+" "+name] = true
	}
	for _, name := range r.removed {
		if !p.ever[r.url+" "+name] {
			p.m.fail("%s never heard of what is removed: %s", p.name, r)
		}
	}
}

// checkForward: what replaces a body is not older, whatever node sends it.
func (p *modelPeer) checkForward(url, name, had, now string) {
	past := p.m.past[url+" "+name]
	from, to := slices.Index(past, had), -1
	for i, body := range past {
		if body == now {
			to = i
		}
	}
	empty := p.protocol == stateOfTheWorld && url == fsm.TypeEndpoints && now == string(appendString(nil, assignmentClusterName, name))
	if !p.m.partial && had != "" && from >= 0 && to < from && !empty {
		p.m.fail("%s: %s went back from its state %d to %d", p.name, name, from, to)
	}
}

// checkHeartbeat: without a body, it must speak of what the client has, unless
// that was forgotten when it was unsubscribed from for a moment.
func (p *modelPeer) checkHeartbeat(r *response) {
	for name, version := range r.versions {
		had, has := p.versions[r.url][name]
		if r.bodies[name] == nil && (r.ttls[name] == 0 || !p.m.rejects && has && had != version) {
			p.m.fail("%s: heartbeat of %s %s, which it does not have", p.name, name, version)
		}
	}
}

// checkLives: nothing that the client accepted dies while it answers in time.
func (p *modelPeer) checkLives() {
	for name, at := range p.expires {
		if !p.m.rejects && time.Now().After(at) {
			p.m.fail("%s: %s has died", p.name, name)
		}
	}
}

// checkConverged compares what the client has to what it is to have.
func (p *modelPeer) checkConverged() {
	if len(p.asked) == 0 {
		return // the server has yet to hear of it
	}
	for _, url := range p.types() {
		want := p.m.wanted(url)
		maps.DeleteFunc(want, func(name, _ string) bool { return !p.wants(url, name) })
		if p.protocol == stateOfTheWorld && url == fsm.TypeEndpoints {
			for _, name := range p.subs[url].names {
				if want[name] == "" {
					want[name] = string(appendString(nil, assignmentClusterName, name))
				}
			}
		}
		if !maps.Equal(p.have[url], want) {
			p.m.fail("%s, %s: has %v, want %v; it waits for %q", p.name, url, keys(p.have[url]), keys(want), p.record().report(time.Now()).WaitingFor)
		}
	}
	rev, _ := p.m.state.Revision("default", "web", 0)
	if r := p.record().report(time.Now()); r.Revision != rev.Info.Revision || r.WaitingFor != "" {
		p.m.fail("%s: converged, yet the record says %v", p.name, r)
	}
}

// record is what the server knows of the client's stream.
func (p *modelPeer) record() *stream {
	for _, st := range p.m.nodes[p.node].server.tracked() {
		if st.rpc == p.pipe {
			return st
		}
	}
	p.m.fail("%s has no stream", p.name)
	return nil
}

// returns opens a stream on another node in a settled state: what the client
// has is not sent again. In the state of the world it is settled when its
// version_info is that of what it asks for now.
func (p *modelPeer) returns(node int) {
	if len(p.asked) == 0 {
		return
	}
	settled := map[string]bool{}
	for _, t := range p.record().types {
		settled[t.kind.url] = !p.m.rejects && (p.protocol == delta || p.accepted[t.kind.url] == t.sent.digest())
	}
	p.connect(node)
	for _, r := range p.unread() {
		if len(r.bodies) > 0 && settled[r.url] && len(r.ttls) == 0 {
			p.m.fail("%s: settled before it came back, yet sent %s", p.name, r)
		}
	}
}

func keys(m map[string]string) []string {
	out := []string{}
	for k, v := range m {
		out = append(out, fmt.Sprintf("%s(%x)", k, v))
	}
	sort.Strings(out)
	return out
}
