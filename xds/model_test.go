package xds

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// model is two nodes that serve one fleet, the clients of modelpeer_test.go,
// which are as dumb as the protocol allows, and a random schedule: changes,
// subscriptions, answers at odd times, NACKs, new streams, passing time.
type model struct {
	t     *testing.T
	rnd   *rand.Rand
	state *fsm.State
	nodes []*modelNode
	peers []*modelPeer
	log   []string
	// past are the bodies of each resource, oldest first; "" when it was gone.
	past map[string][]string
	ends []func()

	// rejects: some content is bad; partial: what is rejected may be applied
	// in part. moves: streams are cut. slow: time passes while answers are due.
	rejects, partial, moves, slow, ttl bool
}

// modelNode is a server with the states that it has yet to see.
type modelNode struct {
	server  *Server
	state   *fsm.State // newest that it has seen
	pending []func()
}

const modelTTL = 20 * time.Second

func newModel(t *testing.T, seed uint64) *model {
	m := &model{t: t, rnd: rand.New(rand.NewPCG(seed, 7)), state: fsm.New(), past: map[string][]string{}}
	switch seed / 2 % 6 {
	case 0:
		m.moves = true
	case 1:
		m.rejects = true
	case 2:
		m.moves, m.slow = true, true
	case 3:
		m.rejects, m.partial = true, true
	case 4:
		m.ttl = true
	case 5:
		m.rejects, m.partial, m.moves, m.slow, m.ttl = true, true, true, true, true
	}
	m.note("rejects %v partial %v moves %v slow %v ttl %v", m.rejects, m.partial, m.moves, m.slow, m.ttl)
	for i := range 2 {
		m.startNode(i)
	}
	m.do(&fsmpb.Command{Op: &fsmpb.Command_PutFleet{PutFleet: &fsmpb.PutFleet{Tenant: "default", Name: "web"}}})
	m.change()
	p := protocol(seed % 2)
	m.peers = []*modelPeer{
		newPeer(m, "ads", p, ""),
		newPeer(m, "ads by name", p, ""), newPeer(m, "clusters", p, fsm.TypeCluster), newPeer(m, "endpoints", p, fsm.TypeEndpoints),
	}[:1+m.rnd.IntN(4)]
	for _, p := range m.peers[1:] {
		p.byName = true
	}
	return m
}

func (m *model) startNode(i int) {
	c := Config{NodeID: strconv.Itoa(i), HelloTimeout: time.Hour}
	if !m.slow {
		c.GateTimeout, c.WarmingGrace = time.Hour, time.Hour // order holds however late an answer is
	}
	n := &modelNode{server: New(c, Deps{})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = n.server.Run(ctx) }()
	m.ends = append(m.ends, func() { cancel(); <-done })
	m.nodes = append(m.nodes, n)
}

func (m *model) note(format string, args ...any) { m.log = append(m.log, fmt.Sprintf(format, args...)) }

func (m *model) fail(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("%s\nafter:\n%s", fmt.Sprintf(format, args...), strings.Join(m.log[max(0, len(m.log)-200):], "\n"))
}

func (m *model) do(c *fsmpb.Command) {
	next, results, events := m.state.Apply(m.state.Index()+1, &fsmpb.Entry{Commands: []*fsmpb.Command{c}})
	check(m.t, fsm.ResultError(results[0]))
	m.state = next
	for _, n := range m.nodes {
		n.pending = append(n.pending, func() {
			n.state = next
			n.server.Applied(next, events)
		})
	}
}

// catchUp lets a node see some of what it has not, or all when it must reach
// an index.
func (m *model) catchUp(n *modelNode, some int) {
	for _, apply := range n.pending[:some] {
		apply()
	}
	n.pending = n.pending[some:]
	synctest.Wait()
}

// badTimeout marks a cluster that clients reject.
const badTimeout = 13

// change makes a revision. Its routes lead to clusters that it has, and in
// ordered schedules it always has routes: the state of the world cannot take
// one away.
func (m *model) change() {
	var rs []*fsmpb.Resource
	var clusters []string
	for _, name := range []string{"a", "b", "c", "d"} {
		if m.rnd.IntN(2) == 0 || name == "d" && len(clusters) == 0 {
			timeout := 1 + m.rnd.IntN(3)
			if m.rejects && len(m.log) > 5 && m.rnd.IntN(4) == 0 {
				timeout = badTimeout
			}
			clusters = append(clusters, name)
			rs = append(rs, m.live(cluster(m.t, name, timeout)))
		}
	}
	for _, name := range []string{"l", "m"} {
		if m.rnd.IntN(3) > 0 {
			rs = append(rs, m.live(listener(m.t, name, 80+m.rnd.IntN(3)+int(name[0]-'l')*10)))
		}
	}
	for _, name := range []string{"r", "s"} {
		rs = append(rs, m.live(route(m.t, name, clusters[m.rnd.IntN(len(clusters))])))
	}
	var text []string
	for _, r := range rs {
		text = append(text, r.Name+":"+fmt.Sprintf("%.4x", r.Hash))
	}
	m.note("change to %s", strings.Join(text, " "))
	m.do(&fsmpb.Command{Op: &fsmpb.Command_ChangeFleet{ChangeFleet: &fsmpb.ChangeFleet{
		Tenant: "default", Fleet: "web", Mode: fsmpb.ChangeFleet_REPLACE, Upsert: rs, Force: true,
	}}})
	m.remember(fsm.TypeCluster, fsm.TypeListener, fsm.TypeRoute)
}

// settle makes a last revision, without anything bad.
func (m *model) settle() {
	rejects := m.rejects
	m.rejects = false
	m.change()
	m.rejects = rejects
}

// live gives a resource a time to live, perhaps.
func (m *model) live(r *fsmpb.Resource) *fsmpb.Resource {
	if m.ttl && m.rnd.IntN(2) == 0 {
		living(r, modelTTL*time.Duration(1+m.rnd.IntN(3)))
	}
	return r
}

func (m *model) changeEndpoints() {
	name := string(rune('a' + m.rnd.IntN(4)))
	if _, ok := m.state.Endpoints("default", name); ok && m.rnd.IntN(3) == 0 {
		m.note("delete endpoints %s", name)
		m.do(&fsmpb.Command{Op: &fsmpb.Command_DeleteEndpoints{DeleteEndpoints: &fsmpb.DeleteEndpoints{Tenant: "default", Service: name}}})
	} else {
		port := uint32(1 + m.rnd.IntN(5))
		m.note("endpoints %s %d", name, port)
		body := marshal(m.t, assignment(name, port))
		m.do(&fsmpb.Command{Op: &fsmpb.Command_PutEndpoints{PutEndpoints: &fsmpb.PutEndpoints{
			Tenant: "default", Service: name, Body: body, Hash: fsm.ResourceHash(body, nil, 0),
		}}})
	}
	m.remember(fsm.TypeEndpoints)
}

var modelNames = []string{"a", "b", "c", "d", "l", "m", "r", "s", "x"}

// remember notes what the resources of some types are now.
func (m *model) remember(urls ...string) {
	for _, url := range urls {
		now := m.wanted(url)
		for _, name := range modelNames {
			key := url + " " + name
			if past := m.past[key]; len(past) == 0 || past[len(past)-1] != now[name] {
				m.past[key] = append(past, now[name])
			}
		}
	}
}

// wanted returns the bodies of a type in the newest state, by name.
func (m *model) wanted(url string) map[string]string {
	want := map[string]string{}
	if url == fsm.TypeEndpoints {
		for e := range m.state.EndpointsOf("default", "") {
			want[e.Service] = string(e.Body)
		}
	} else if rev, ok := m.state.Revision("default", "web", 0); ok {
		for r := range rev.Resources(url) {
			want[r.Name] = string(r.Body)
		}
	}
	return want
}

// pass lets time go by. With times to live, answers are given before and
// after.
func (m *model) pass() {
	most := 4000
	if m.ttl {
		most = 9000 // less than the time between heartbeats
	}
	d := time.Duration(m.rnd.IntN(most)) * time.Millisecond
	m.note("%v pass", d)
	if m.ttl && !m.slow {
		m.drain()
	}
	time.Sleep(d)
	synctest.Wait()
	if m.ttl && !m.slow {
		m.drain()
		for _, p := range m.peers {
			p.checkLives()
		}
	}
}

// drain lets all clients answer until nothing is left.
func (m *model) drain() {
	rounds := 0
	for again := true; again; rounds++ {
		again = false
		for _, p := range m.peers {
			again = p.step() || again
		}
		if rounds > 100 {
			m.fail("it goes on for ever")
		}
	}
}

func (m *model) act() {
	p := m.peers[m.rnd.IntN(len(m.peers))]
	n := m.nodes[m.rnd.IntN(len(m.nodes))]
	switch k := m.rnd.IntN(20); {
	case k < 3:
		m.change()
	case k < 5:
		m.changeEndpoints()
	case k < 8:
		m.catchUp(n, m.rnd.IntN(len(n.pending)+1))
	case k < 9 && (m.slow || m.ttl):
		m.pass()
	case k < 11 && m.moves:
		p.connect(m.rnd.IntN(len(m.nodes)))
	case k < 13 && p.byName:
		p.resubscribe()
	default:
		p.step()
	}
}

func (m *model) run(steps int) {
	m.catchUp(m.nodes[0], len(m.nodes[0].pending))
	for _, p := range m.peers {
		p.connect(0)
	}
	for range steps {
		m.act()
		for _, p := range m.peers {
			p.checkOneEach()
		}
	}
	m.settle()
	for _, n := range m.nodes {
		m.catchUp(n, len(n.pending))
	}
	m.converge()
	m.quiet()
	for i, p := range m.peers {
		p.returns(1 - p.node)
		m.note("peer %d has returned", i)
	}
	for _, p := range m.peers {
		p.disconnect()
	}
}

// converge lets the clients answer, and time pass only where something may
// wait for it, until they have what they are to have.
func (m *model) converge() {
	m.drain()
	if m.slow {
		for range 3 {
			time.Sleep(7 * time.Second)
			synctest.Wait()
			m.drain()
		}
	}
	for _, p := range m.peers {
		p.checkConverged()
	}
}

// quiet holds that a settled state is not sent again, even if a node looks at
// it anew.
func (m *model) quiet() {
	for _, n := range m.nodes {
		n.server.Applied(n.state, nil)
	}
	synctest.Wait()
	for _, p := range m.peers {
		if r := p.next(); r != nil {
			m.fail("%s: settled, yet sent %s", p.name, r)
		}
	}
}

// TestModel runs random schedules, each under its seed: -run
// 'TestModel/seed=7$' repeats one. XDS_MODEL_SCHEDULES and XDS_MODEL_FIRST make
// it run more, or others.
func TestModel(t *testing.T) {
	first, schedules := fromEnv(t, "XDS_MODEL_FIRST", 0), fromEnv(t, "XDS_MODEL_SCHEDULES", 2500)
	if testing.Short() {
		schedules = min(schedules, 200)
	}
	seeds := []uint64{1246, 1247, 1571, 1675, 1697, 3477, 3850, 5242} // found mistakes
	for seed := first; seed < first+schedules; seed++ {
		seeds = append(seeds, seed)
	}
	for _, seed := range seeds {
		t.Run("seed="+strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(t, seed)
				defer func() {
					for _, p := range m.peers {
						p.disconnect()
					}
					for _, end := range slices.Backward(m.ends) {
						end()
					}
				}()
				m.run(60 + m.rnd.IntN(60))
			})
		})
	}
}

func fromEnv(t *testing.T, name string, otherwise uint64) uint64 {
	text, ok := os.LookupEnv(name)
	if !ok {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	check(t, err)
	return n
}
