package xds

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// badTimeout marks a cluster that the model's proxy rejects.
const badTimeout = 13

// model is a dumb client of the protocol next to a server, driven by a random
// schedule: changes, answers at odd times, NACKs, new streams.
type model struct {
	t      *testing.T
	rnd    *rand.Rand
	server *Server
	state  *fsm.State
	log    []string

	protocol protocol
	stream   *stream
	wire     *wire
	read     int // responses of the wire that the proxy has looked at

	rejects, reconnects, partial, ttl bool

	names    map[string][]string          // subscribed, nil: wildcard
	have     map[string]map[string]string // applied: bodies by type and name
	versions map[string]map[string]string // accepted, delta
	accepted map[string]string            // version_info, state of the world
	unacked  map[string]bool
}

var modelTypes = []string{fsm.TypeCluster, fsm.TypeEndpoints, fsm.TypeListener, fsm.TypeRoute}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{t: t, rnd: rand.New(rand.NewPCG(seed, 7)), state: fsm.New()}
	m.server = New(Config{NodeID: "n", GateTimeout: time.Hour, WarmingGrace: time.Hour}, Deps{})
	m.protocol = protocol(seed % 2)
	m.ttl = seed/8%2 == 1
	switch seed / 2 % 4 {
	case 1:
		m.rejects = true
	case 2:
		m.reconnects = true
	case 3:
		m.rejects, m.partial = true, true
	}
	m.do(&fsmpb.Command{Op: &fsmpb.Command_PutFleet{PutFleet: &fsmpb.PutFleet{Tenant: "default", Name: "web"}}})
	m.names = map[string][]string{fsm.TypeRoute: {"r", "s"}}
	m.have, m.versions, m.accepted = map[string]map[string]string{}, map[string]map[string]string{}, map[string]string{}
	for _, url := range modelTypes {
		m.have[url], m.versions[url] = map[string]string{}, map[string]string{}
	}
	return m
}

func (m *model) note(format string, args ...any) { m.log = append(m.log, fmt.Sprintf(format, args...)) }

func (m *model) fail(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("%s\nafter:\n%s", fmt.Sprintf(format, args...), strings.Join(m.log, "\n"))
}

func (m *model) do(c *fsmpb.Command) {
	next, results, events := m.state.Apply(m.state.Index()+1, &fsmpb.Entry{Commands: []*fsmpb.Command{c}})
	check(m.t, fsm.ResultError(results[0]))
	m.state = next
	m.server.Applied(next, events)
}

// spread is the fan-out's turn; it may come after several changes.
func (m *model) spread() {
	for _, st := range m.server.hub.spread(m.server.dirt.take()) {
		st.pump(true)
	}
}

func (m *model) change(bad bool) {
	var rs []*fsmpb.Resource
	var clusters, text []string
	for _, name := range []string{"a", "b", "c", "d"} {
		if m.rnd.IntN(2) == 0 || name == "d" && len(clusters) == 0 && m.ordered() {
			timeout := 1 + m.rnd.IntN(3)
			if bad && m.rnd.IntN(4) == 0 {
				timeout = badTimeout
			}
			clusters = append(clusters, name)
			rs = append(rs, m.live(cluster(m.t, name, timeout)))
			text = append(text, fmt.Sprint(name, timeout))
		}
	}
	for _, name := range []string{"l", "m"} {
		if m.rnd.IntN(3) > 0 {
			port := 80 + m.rnd.IntN(3) + int(name[0]-'l')*10
			rs = append(rs, m.live(listener(m.t, name, port)))
			text = append(text, fmt.Sprint(name, port))
		}
	}
	for _, name := range []string{"r", "s"} {
		if len(clusters) > 0 && (m.ordered() || m.rnd.IntN(4) > 0) {
			to := clusters[m.rnd.IntN(len(clusters))]
			rs = append(rs, m.live(route(m.t, name, to)))
			text = append(text, name+"->"+to)
		}
	}
	m.note("change %s", strings.Join(text, " "))
	m.do(&fsmpb.Command{Op: &fsmpb.Command_ChangeFleet{ChangeFleet: &fsmpb.ChangeFleet{
		Tenant: "default", Fleet: "web", Mode: fsmpb.ChangeFleet_REPLACE, Upsert: rs, Force: true,
	}}})
}

// live gives a resource a time to live, perhaps.
func (m *model) live(r *fsmpb.Resource) *fsmpb.Resource {
	if m.ttl && m.rnd.IntN(2) == 0 {
		living(r, time.Duration(1+m.rnd.IntN(2))*time.Hour)
	}
	return r
}

// beat makes all heartbeats due.
func (m *model) beat() {
	m.note("heartbeats are due")
	for _, t := range m.stream.types {
		t.beatAt = 0
	}
	m.stream.pump(true)
}

// renew takes in a heartbeat without a body: the proxy must have the version.
func (m *model) renew(r *response, a *discoveryv3.Resource) {
	r.ttls[a.Name] = a.Ttl.AsDuration()
	if a.Ttl == nil || m.have[r.url][a.Name] == "" && !m.rejects || m.versions[r.url][a.Name] != a.Version && !m.rejects {
		m.fail("heartbeat %v of what the proxy does not have", a)
	}
}

func (m *model) changeEndpoints() {
	name := string(rune('a' + m.rnd.IntN(4)))
	if _, ok := m.state.Endpoints("default", name); ok && m.rnd.IntN(3) == 0 {
		m.note("delete endpoints %s", name)
		m.do(&fsmpb.Command{Op: &fsmpb.Command_DeleteEndpoints{DeleteEndpoints: &fsmpb.DeleteEndpoints{Tenant: "default", Service: name}}})
		return
	}
	port := uint32(1 + m.rnd.IntN(5))
	m.note("endpoints %s %d", name, port)
	body := marshal(m.t, assignment(name, port))
	m.do(&fsmpb.Command{Op: &fsmpb.Command_PutEndpoints{PutEndpoints: &fsmpb.PutEndpoints{
		Tenant: "default", Service: name, Body: body, Hash: fsm.ResourceHash(body, nil, 0),
	}}})
}

// connect begins a stream with what the proxy accepted on the one before.
func (m *model) connect() {
	if m.stream != nil {
		m.note("reconnect")
		m.stream.close()
	}
	m.wire, m.read, m.unacked = &wire{codec: newCodec()}, 0, map[string]bool{}
	m.stream = &stream{
		server: m.server, rpc: m.wire, number: m.server.numbers.Add(1), protocol: m.protocol,
		id: Identity{"default", "web", "p"}, since: time.Now(), ttl: m.ttl,
	}
	m.stream.scope = m.server.hub.join(fleetKey{"default", "web"}, m.stream)
	order := slices.Clone(modelTypes)
	if !m.ordered() || m.accepted[fsm.TypeRoute] != "" || len(m.versions[fsm.TypeRoute]) > 0 { // else as Envoy does, clusters first
		m.rnd.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	}
	for _, url := range order {
		if url == fsm.TypeEndpoints && len(m.names[url]) == 0 {
			continue
		}
		r := &request{delta: m.protocol == delta, typeURL: url}
		if m.protocol == delta {
			r.subscribe = slices.Clone(m.names[url])
			for name, version := range m.versions[url] {
				r.initial = append(r.initial, named{name, version})
			}
		} else {
			r.names, r.version = slices.Clone(m.names[url]), m.accepted[url]
		}
		m.send(r)
	}
}

func (m *model) send(r *request) {
	in := &inbox{server: m.server, stream: m.stream, delta: r.delta}
	check(m.t, in.open().decode(encodeRequest(m.t, r)))
	check(m.t, m.stream.handle(in.request, time.Now()))
	in.done()
	m.stream.pump(true)
}

// step is what the proxy does with the next response.
func (m *model) step() bool {
	if m.read == len(m.wire.sent) {
		return false
	}
	b := m.wire.sent[m.read]
	m.read++
	r := m.decode(b)
	bad := m.rejects && r.has(badTimeout)
	m.note("proxy reads %s, bad %v", r, bad)
	reply := &request{
		delta: m.protocol == delta, typeURL: r.url, nonce: parseNonce([]byte(r.nonce)), rejected: bad,
		names: slices.Clone(m.names[r.url]),
	}
	if !bad {
		m.apply(r, func() bool { return true })
		m.accepted[r.url] = r.version
		for name, version := range r.versions {
			if m.have[r.url][name] != "" {
				m.versions[r.url][name] = version
			}
		}
		for _, name := range r.removed {
			delete(m.versions[r.url], name)
		}
	} else if m.partial {
		m.apply(r, func() bool { return m.rnd.IntN(2) == 0 })
	}
	reply.version = m.accepted[r.url]
	m.send(reply)
	if r.url == fsm.TypeCluster {
		m.follow()
	}
	if m.ordered() {
		m.checkRoutes()
	}
	return true
}

func (m *model) decode(b []byte) *response {
	r := &response{bodies: map[string]proto.Message{}, versions: map[string]string{}, ttls: map[string]time.Duration{}}
	if m.protocol == stateOfTheWorld {
		x := &discoveryv3.DiscoveryResponse{}
		check(m.t, proto.Unmarshal(b, x))
		r.url, r.nonce, r.version = x.TypeUrl, x.Nonce, x.VersionInfo
		for _, a := range x.Resources {
			r.add("", a)
		}
		return r
	}
	x := &discoveryv3.DeltaDiscoveryResponse{}
	check(m.t, proto.Unmarshal(b, x))
	r.url, r.nonce, r.removed = x.TypeUrl, x.Nonce, x.RemovedResources
	for _, a := range x.Resources {
		if a.Resource == nil {
			m.renew(r, a)
			continue
		}
		r.add(a.Name, a.Resource)
		r.versions[a.Name] = a.Version
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
func (m *model) apply(r *response, take func() bool) {
	have := m.have[r.url]
	whole := m.protocol == stateOfTheWorld && (r.url == fsm.TypeCluster || r.url == fsm.TypeListener)
	for name := range have {
		if whole && r.bodies[name] == nil && take() {
			delete(have, name)
		}
	}
	for _, name := range r.removed {
		if take() {
			delete(have, name)
		}
	}
	for name, b := range r.bodies {
		if names := m.names[r.url]; (names != nil || r.url == fsm.TypeEndpoints) && !slices.Contains(names, name) {
			continue // unsubscribed from while it was on its way
		}
		if (&response{bodies: map[string]proto.Message{"": b}}).has(badTimeout) && m.rejects {
			continue
		}
		if take() {
			have[name] = string(marshal(m.t, b))
		}
	}
}

// follow subscribes to the endpoints of the clusters that the proxy has.
func (m *model) follow() {
	want := slices.Sorted(maps.Keys(m.have[fsm.TypeCluster]))
	old := m.names[fsm.TypeEndpoints]
	if slices.Equal(want, old) {
		return
	}
	first := m.stream.find(fsm.TypeEndpoints) == nil
	m.names[fsm.TypeEndpoints] = want
	for name := range m.have[fsm.TypeEndpoints] {
		if !slices.Contains(want, name) {
			delete(m.have[fsm.TypeEndpoints], name)
			delete(m.versions[fsm.TypeEndpoints], name)
		}
	}
	if first && len(want) == 0 {
		return
	}
	m.note("proxy asks for endpoints %v", want)
	r := &request{delta: m.protocol == delta, typeURL: fsm.TypeEndpoints}
	if m.protocol == delta {
		r.subscribe, r.unsubscribe = without(want, old), without(old, want)
	} else {
		r.names, r.version = slices.Clone(want), m.accepted[fsm.TypeEndpoints]
		if t := m.stream.find(fsm.TypeEndpoints); t != nil {
			r.nonce = t.lastNonce
		}
	}
	m.send(r)
}

// ordered schedules never reject, and always have routes: state of the world
// cannot take one away.
func (m *model) ordered() bool { return !m.rejects }

// checkRoutes holds the promise of make before break.
func (m *model) checkRoutes() {
	for name, body := range m.have[fsm.TypeRoute] {
		r := &routev3.RouteConfiguration{}
		check(m.t, proto.Unmarshal([]byte(body), r))
		if to := r.VirtualHosts[0].Name; m.have[fsm.TypeCluster][to] == "" {
			m.fail("route %s leads to cluster %s, which the proxy does not have", name, to)
		}
	}
}

// checkOneEach: of each type at most one response is without an answer.
func (m *model) checkOneEach() {
	seen := map[string]int{}
	for _, b := range m.wire.sent[m.read:] {
		if r := m.decode(b); seen[r.url] > 0 {
			m.fail("two responses of %s under way", r.url)
		} else {
			seen[r.url]++
		}
	}
}

// checkConverged compares what the proxy has to what it is to have.
func (m *model) checkConverged() {
	rev, ok := m.state.Revision("default", "web", 0)
	if !ok {
		m.fail("no revision")
	}
	for _, url := range modelTypes {
		want := map[string]string{}
		switch url {
		case fsm.TypeEndpoints:
			for _, name := range m.names[url] {
				if e, ok := m.state.Endpoints("default", name); ok {
					want[name] = string(e.Body)
				} else if m.protocol == stateOfTheWorld {
					want[name] = string(appendString(nil, assignmentClusterName, name))
				}
			}
		default:
			for r := range rev.Resources(url) {
				want[r.Name] = string(r.Body)
			}
			if url == fsm.TypeRoute && m.protocol == stateOfTheWorld {
				maps.DeleteFunc(m.have[url], func(name, _ string) bool { return want[name] == "" })
			}
		}
		if !maps.Equal(m.have[url], want) {
			m.fail("%s: has %v, want %v", url, keys(m.have[url]), keys(want))
		}
	}
	r := m.stream.report(time.Now())
	if r.Revision != rev.Info.Revision || r.WaitingFor != "" {
		m.fail("converged, yet the record says %v", r)
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

func (m *model) run(steps int) {
	m.change(false)
	m.spread()
	m.connect()
	for range steps {
		switch n := m.rnd.IntN(12); {
		case n < 2:
			m.change(m.rejects)
		case n < 4:
			m.changeEndpoints()
		case n < 6:
			m.spread()
		case n == 6 && m.ttl && m.rnd.IntN(2) == 0:
			m.beat()
		case n == 6 && m.reconnects:
			m.connect()
		default:
			m.step()
		}
		m.checkOneEach()
	}
	m.change(false)
	m.spread()
	for m.step() {
		m.checkOneEach()
	}
	m.checkConverged()
	bytes := len(m.wire.sent)
	m.server.hub.state = nil // a new look at the same state
	m.server.Applied(m.state, nil)
	m.spread()
	if len(m.wire.sent) != bytes {
		m.fail("settled, yet sent %s", m.decode(m.wire.sent[bytes]))
	}
	if !m.partial && !m.rejects {
		m.checkReconnect()
	}
	m.stream.close()
}

// checkReconnect: a settled proxy is sent no body again. In the state of the
// world it is settled when its version_info is that of what it asks for now:
// a route that went, or a name that it dropped with an ACK, cannot be told.
func (m *model) checkReconnect() {
	settled := map[string]bool{}
	for _, t := range m.stream.types {
		settled[t.kind.url] = m.protocol == delta || m.accepted[t.kind.url] == t.sent.digest()
	}
	if !settled[fsm.TypeCluster] || !settled[fsm.TypeListener] {
		m.fail("settled, yet the proxy's version_info is not that of what it has")
	}
	m.connect()
	for _, b := range m.wire.sent {
		if r := m.decode(b); len(r.bodies) > 0 && settled[r.url] && len(r.ttls) == 0 {
			m.fail("settled before the reconnect, yet sent %s", r)
		}
	}
}

// TestModel runs random schedules; the seed of a failing one is its name.
func TestModel(t *testing.T) {
	schedules := uint64(800)
	if testing.Short() {
		schedules = 100
	}
	for seed := range schedules {
		m := newModel(t, seed)
		m.note("seed %d %s rejects %v partial %v reconnects %v", seed, m.protocol, m.rejects, m.partial, m.reconnects)
		m.run(40 + m.rnd.IntN(60))
	}
}

// encodeRequest makes the message that a request would be decoded from.
func encodeRequest(t testing.TB, r *request) []byte {
	var detail *statuspb.Status
	if r.rejected {
		detail = &statuspb.Status{Message: r.rejectText}
	}
	number := ""
	if r.nonce.number != 0 {
		number = string(r.nonce.append(nil))
	}
	if !r.delta {
		return marshal(t, &discoveryv3.DiscoveryRequest{
			TypeUrl: r.typeURL, VersionInfo: r.version, ResourceNames: r.names, ResponseNonce: number, ErrorDetail: detail,
		})
	}
	initial := map[string]string{}
	for _, n := range r.initial {
		initial[n.name] = n.version
	}
	return marshal(t, &discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: r.typeURL, ResourceNamesSubscribe: r.subscribe, ResourceNamesUnsubscribe: r.unsubscribe,
		InitialResourceVersions: initial, ResponseNonce: number, ErrorDetail: detail,
	})
}
