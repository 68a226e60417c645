package faults

import (
	"fmt"
	"net"
	"sync"

	"github.com/org/envoy-control-plane/deploy/namespace"
)

const (
	subnet = "10.99.0."
	// hubIP is where the test is.
	hubIP = subnet + "254"
)

// network is a bridge with a host for each node. Every host knows the others'
// link addresses by entries that never change of themselves. A one-way cut is
// an entry that leads nowhere.
type network struct {
	bridge *namespace.Bridge

	mu    sync.Mutex
	hosts []*host
	// cuts[a][b]: nothing gets from a to b.
	cuts [][]bool
}

// host is where a node runs.
type host struct {
	*namespace.Host
	ip string
}

func newNetwork(hosts int) (*network, error) {
	bridge, err := namespace.NewBridge("br0", hubIP+"/24")
	if err != nil {
		return nil, err
	}
	n := &network{bridge: bridge}
	for i := range hosts {
		h := &host{ip: fmt.Sprint(subnet, i+1)}
		h.Host, err = bridge.Add(fmt.Sprint("node", i), h.ip+"/24", net.HardwareAddr{0x02, 0, 0, 0, 0, byte(i + 1)})
		if err != nil {
			return nil, err
		}
		n.hosts = append(n.hosts, h)
		n.cuts = append(n.cuts, make([]bool, hosts))
	}
	return n, n.tell()
}

// on runs f on a thread of host i: what it starts lives there.
func (n *network) on(i int, f func() error) error { return n.hosts[i].Do(f) }

// ip of a host.
func (n *network) ip(i int) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hosts[i].ip
}

// tell gives every host the entries of all others, as cuts say.
func (n *network) tell() error {
	for a, from := range n.hosts {
		for b, to := range n.hosts {
			if a == b {
				continue
			}
			mac := to.MAC
			if n.cuts[a][b] {
				mac = namespace.Nowhere
			}
			if err := from.Tell(to.ip, mac); err != nil {
				return fmt.Errorf("tell host %d of host %d: %w", a, b, err)
			}
		}
	}
	return nil
}

// cut lets nothing through where broken says so, from a to b, and everything
// elsewhere. The test itself reaches every host, always.
func (n *network) cut(broken func(a, b int) bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for a := range n.hosts {
		for b := range n.hosts {
			n.cuts[a][b] = a != b && broken(a, b)
		}
	}
	return n.tell()
}

// heal lets everything through.
func (n *network) heal() error {
	return n.cut(func(int, int) bool { return false })
}

// move gives a host another IP.
func (n *network) move(i int, ip string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hosts[i]
	if err := h.Move(h.ip+"/24", ip+"/24"); err != nil {
		return fmt.Errorf("host %d: %w", i, err)
	}
	h.ip = ip
	return n.tell()
}

func (n *network) close() {
	for _, h := range n.hosts {
		h.Close()
	}
	_ = n.bridge.Close()
}
