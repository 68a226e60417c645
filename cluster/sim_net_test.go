package cluster

import (
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// simNet carries messages in simulated time. Each goes its own way: nothing
// keeps two of them in order.
type simNet struct {
	trace *simTrace
	// closed ends everything that is under way.
	closed chan struct{}
	wg     sync.WaitGroup

	mu      sync.Mutex
	rand    *rand.Rand
	nodes   map[string]*simNode // by host, while they run
	weather map[simLink]*simWeather
	changed chan struct{} // closed when a cut may have ended
}

// simLink is one direction between two hosts.
type simLink struct{ from, to string }

// simWeather is what a link does to messages.
type simWeather struct {
	// cut holds messages up until it ends, or loses them.
	cut bool
	// latency is how long a message takes at most.
	latency time.Duration
	// Of a thousand messages so many are lost, come once more, are late by up
	// to simLate.
	lost, again, late int
}

const (
	simLatency = 2 * time.Millisecond
	simLate    = 3 * time.Second
)

func newSimNet(r *rand.Rand, trace *simTrace) *simNet {
	return &simNet{
		trace: trace, closed: make(chan struct{}), rand: r, nodes: map[string]*simNode{}, weather: map[simLink]*simWeather{},
		changed: make(chan struct{}),
	}
}

// on returns the weather of a link; n.mu is held.
func (n *simNet) on(l simLink) *simWeather {
	w := n.weather[l]
	if w == nil {
		w = &simWeather{latency: simLatency}
		n.weather[l] = w
	}
	return w
}

// change changes the weather of links.
func (n *simNet) change(links []simLink, do func(*simWeather)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range links {
		do(n.on(l))
	}
	close(n.changed)
	n.changed = make(chan struct{})
}

// at returns the node that runs on a host, nil for none.
func (n *simNet) at(host string) *simNode {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.nodes[host]
}

// connect makes a node reachable on its host, nil nobody.
func (n *simNet) connect(host string, x *simNode) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes[host] = x
}

func (n *simNet) cut(l simLink) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.on(l).cut
}

// often reports whether one of a thousand such cases has come.
func (n *simNet) often(perMille int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rand.IntN(1000) < perMille
}

// upTo draws a time.
func (n *simNet) upTo(d time.Duration) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return time.Duration(n.rand.Int64N(int64(d) + 1))
}

// pause lets time go by; false when the simulation ends first.
func (n *simNet) pause(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-n.closed:
		return false
	}
}

// twice draws whether a message comes once more, and how much later.
func (n *simNet) twice(l simLink) (later time.Duration, again bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.rand.IntN(1000) >= n.on(l).again {
		return 0, false
	}
	return time.Duration(n.rand.Int64N(int64(simLate))), true
}

// travel takes a message over a link; false when it does not arrive.
func (n *simNet) travel(l simLink) bool {
	n.mu.Lock()
	w := n.on(l)
	delay := time.Duration(n.rand.Int64N(int64(w.latency) + 1))
	if n.rand.IntN(1000) < w.late {
		delay += time.Duration(n.rand.Int64N(int64(simLate)))
	}
	lost := n.rand.IntN(1000) < w.lost
	n.mu.Unlock()
	return n.pause(delay) && !lost && n.past(l)
}

// past waits until a link is not cut. Half of what is held up then is lost.
func (n *simNet) past(l simLink) bool {
	for held := false; ; held = true {
		n.mu.Lock()
		cut, changed := n.on(l).cut, n.changed
		lost := held && n.rand.IntN(2) == 0
		n.mu.Unlock()
		if !cut {
			return !lost
		}
		select {
		case <-changed:
		case <-n.closed:
			return false
		}
	}
}

var (
	errSimRefused = errors.New("connection refused")
	errSimReset   = errors.New("connection reset")
	errSimTimeout = errors.New("i/o timeout")
)

// linksBetween returns the links between two groups of hosts, both ways.
func linksBetween(a, b []string) (links []simLink) {
	for _, x := range a {
		for _, y := range b {
			if x != y {
				links = append(links, simLink{x, y}, simLink{y, x})
			}
		}
	}
	return links
}
