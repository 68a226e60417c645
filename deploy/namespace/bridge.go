package namespace

import (
	"errors"
	"fmt"
	"net"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Nowhere is a link address that nobody has: what goes there vanishes without
// an error, as it does in a broken network.
var Nowhere = net.HardwareAddr{0x02, 0xde, 0xad, 0, 0, 0} //nolint:gochecknoglobals // never changes

// Bridge joins hosts. The namespace that made it is on it, too.
type Bridge struct{ link *netlink.Bridge }

// NewBridge makes a bridge, with this namespace's address on it, "10.0.0.254/24".
func NewBridge(name, address string) (*Bridge, error) {
	attrs := netlink.NewLinkAttrs()
	// Of itself it would take the lowest address of those that come and go.
	attrs.Name, attrs.HardwareAddr = name, net.HardwareAddr{0x02, 0xbb, 0, 0, 0, 0xfe}
	link := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(link); err != nil {
		return nil, fmt.Errorf("add a bridge: %w", err)
	}
	addr, err := netlink.ParseAddr(address)
	if err == nil {
		err = errors.Join(netlink.AddrAdd(link, addr), netlink.LinkSetUp(link))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("add a bridge: %w", err), netlink.LinkDel(link))
	}
	return &Bridge{link}, nil
}

// Tell makes this namespace use a link address for an IP from now on.
func (b *Bridge) Tell(ip string, mac net.HardwareAddr) error {
	return netlink.NeighSet(neighbour(b.link.Index, ip, mac))
}

// Close removes the bridge; hosts are closed before.
func (b *Bridge) Close() error { return netlink.LinkDel(b.link) }

// Host is a network namespace with loopback and one interface, eth0, on a bridge.
type Host struct {
	MAC  net.HardwareAddr
	ns   netns.NsHandle
	nl   *netlink.Handle
	veth *netlink.Veth // its end on the bridge
	eth0 netlink.Link
}

// Add makes a host. The name is its interface's on the bridge; the address has
// the length of the network, "10.0.0.1/24".
func (b *Bridge) Add(name, address string, mac net.HardwareAddr) (*Host, error) {
	h := &Host{MAC: mac}
	if err := apartFrom(func() (err error) { h.ns, err = netns.New(); return err }); err != nil {
		return nil, fmt.Errorf("add host %s: %w", name, err)
	}
	if err := h.connect(b, name, address); err != nil {
		h.Close()
		return nil, fmt.Errorf("add host %s: %w", name, err)
	}
	return h, nil
}

func (h *Host) connect(b *Bridge, name, address string) (err error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex, attrs.Flags = name, b.link.Index, net.FlagUp
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerHardwareAddr, veth.PeerNamespace = "eth0", h.MAC, netlink.NsFd(h.ns)
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	h.veth = veth
	if err := netlink.LinkSetUp(veth); err != nil {
		return err
	}
	if h.nl, err = netlink.NewHandleAt(h.ns); err != nil {
		return err
	}
	lo, err := h.nl.LinkByName("lo")
	if err != nil {
		return err
	}
	if h.eth0, err = h.nl.LinkByName("eth0"); err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	return errors.Join(h.nl.AddrAdd(h.eth0, addr), h.nl.LinkSetUp(lo), h.nl.LinkSetUp(h.eth0))
}

// Do runs f on a thread of the host: what it starts lives there.
func (h *Host) Do(f func() error) error {
	return apartFrom(func() error {
		if err := netns.Set(h.ns); err != nil {
			return fmt.Errorf("enter a host: %w", err)
		}
		return f()
	})
}

// Tell makes the host use a link address for an IP from now on.
func (h *Host) Tell(ip string, mac net.HardwareAddr) error {
	return h.nl.NeighSet(neighbour(h.eth0.Attrs().Index, ip, mac))
}

// Move gives the host another address than the one it has.
func (h *Host) Move(from, to string) error {
	old, err := netlink.ParseAddr(from)
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(to)
	if err != nil {
		return err
	}
	if err := h.nl.AddrDel(h.eth0, old); err != nil {
		return fmt.Errorf("take %s from a host: %w", from, err)
	}
	if err := h.nl.AddrAdd(h.eth0, addr); err != nil {
		return fmt.Errorf("give a host %s: %w", to, err)
	}
	return nil
}

// Close takes the host off the bridge. Its namespace ends with the last process in it.
func (h *Host) Close() {
	if h.veth != nil {
		_ = netlink.LinkDel(h.veth) // at once, unlike the end of its namespace
	}
	if h.nl != nil {
		h.nl.Close()
	}
	_ = h.ns.Close()
}

func neighbour(link int, ip string, mac net.HardwareAddr) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex: link, Family: unix.AF_INET, State: netlink.NUD_PERMANENT, IP: net.ParseIP(ip), HardwareAddr: mac,
	}
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
