package faults

import (
	"fmt"
	"net"
	"runtime"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	subnet = "10.99.0."
	// hubIP is where the test is.
	hubIP = subnet + "254"
)

// network is a bridge with a host, a network namespace, for each node. Every
// host knows the others' link addresses by entries that never change of
// themselves. A one-way cut is an entry that leads nowhere: packets vanish
// without an error, as they do in a broken network.
type network struct {
	bridge *netlink.Bridge

	mu    sync.Mutex
	hosts []*host
	// cuts[a][b]: nothing gets from a to b.
	cuts [][]bool
}

// host is where a node runs.
type host struct {
	ns   netns.NsHandle
	nl   *netlink.Handle
	veth *netlink.Veth // its end on the bridge
	link int           // index of its interface
	mac  net.HardwareAddr
	ip   string
}

var nowhere = net.HardwareAddr{0x02, 0xde, 0xad, 0, 0, 0}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback: %w", err)
	}
	return netlink.LinkSetUp(lo)
}

func newNetwork(hosts int) (*network, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br0"
	n := &network{bridge: &netlink.Bridge{LinkAttrs: attrs}}
	if err := netlink.LinkAdd(n.bridge); err != nil {
		return nil, fmt.Errorf("add a bridge: %w", err)
	}
	if err := addAddress(nil, n.bridge, hubIP); err != nil {
		return nil, err
	}
	for i := range hosts {
		h, err := n.addHost(i)
		if err != nil {
			return nil, fmt.Errorf("add host %d: %w", i, err)
		}
		n.hosts = append(n.hosts, h)
		n.cuts = append(n.cuts, make([]bool, hosts))
	}
	return n, n.tell()
}

// addHost makes a namespace, with an interface that is on the bridge.
func (n *network) addHost(i int) (*host, error) {
	h := &host{mac: net.HardwareAddr{0x02, 0, 0, 0, 0, byte(i + 1)}, ip: fmt.Sprint(subnet, i+1)}
	if err := apartFrom(func() (err error) { h.ns, err = netns.New(); return err }); err != nil {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex, attrs.Flags = fmt.Sprint("node", i), n.bridge.Index, net.FlagUp
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerHardwareAddr, veth.PeerNamespace = "eth0", h.mac, netlink.NsFd(h.ns)
	if err := netlink.LinkAdd(veth); err != nil {
		return nil, err
	}
	h.veth = veth
	if err := netlink.LinkSetUp(veth); err != nil {
		return nil, err
	}
	var err error
	if h.nl, err = netlink.NewHandleAt(h.ns); err != nil {
		return nil, err
	}
	for _, name := range []string{"lo", "eth0"} {
		link, err := h.nl.LinkByName(name)
		if err != nil {
			return nil, err
		}
		h.link = link.Attrs().Index
		if name == "eth0" {
			if err := addAddress(h.nl, link, h.ip); err != nil {
				return nil, err
			}
		}
		if err := h.nl.LinkSetUp(link); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// addAddress gives an interface its IP and turns it on; a nil handle is this
// namespace.
func addAddress(nl *netlink.Handle, link netlink.Link, ip string) error {
	addr, err := netlink.ParseAddr(ip + "/24")
	if err != nil {
		return err
	}
	if nl != nil {
		return nl.AddrAdd(link, addr)
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// apartFrom runs f on a thread that ends with it.
func apartFrom(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		done <- f()
	}()
	return <-done
}

// on runs f on a thread of host i: what it starts lives there.
func (n *network) on(i int, f func() error) error {
	return apartFrom(func() error {
		if err := netns.Set(n.hosts[i].ns); err != nil {
			return fmt.Errorf("enter host %d: %w", i, err)
		}
		return f()
	})
}

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
			mac := to.mac
			if n.cuts[a][b] {
				mac = nowhere
			}
			err := from.nl.NeighSet(&netlink.Neigh{
				LinkIndex: from.link, Family: unix.AF_INET, State: netlink.NUD_PERMANENT, IP: net.ParseIP(to.ip), HardwareAddr: mac,
			})
			if err != nil {
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
	link, err := h.nl.LinkByName("eth0")
	if err != nil {
		return err
	}
	old, err := netlink.ParseAddr(h.ip + "/24")
	if err != nil {
		return err
	}
	if err := h.nl.AddrDel(link, old); err != nil {
		return fmt.Errorf("take the IP of host %d: %w", i, err)
	}
	if err := addAddress(h.nl, link, ip); err != nil {
		return fmt.Errorf("give host %d an IP: %w", i, err)
	}
	h.ip = ip
	return n.tell()
}

func (n *network) close() {
	for _, h := range n.hosts {
		_ = netlink.LinkDel(h.veth) // at once, unlike the end of its namespace
		h.nl.Close()
		_ = h.ns.Close()
	}
	_ = netlink.LinkDel(n.bridge)
}
