package gossip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// foreignAfter is how long an address that this machine does not have is taken
// for an old one: two lives of a record in Kubernetes' DNS.
const foreignAfter = 10 * time.Second

// lookupSelf finds the IP of the advertised name. A pod may start before its
// name is in the DNS, and while that still has the address of its predecessor.
// Behind a translation of addresses, no machine ever has the advertised one.
func (g *Gossip) lookupSelf(ctx context.Context) (string, error) {
	for began, attempt := time.Now(), 0; ; attempt++ {
		addrs, err := net.DefaultResolver.LookupIPAddr(ctx, g.cfg.Advertise)
		own, foreign := choose(addrs, onThisMachine)
		literal := net.ParseIP(g.cfg.Advertise) != nil
		switch {
		case own != "" || literal && foreign != "":
			return cmp.Or(own, foreign), nil
		case foreign != "" && time.Since(began) >= foreignAfter:
			g.cfg.Log.Warn("the advertised name leads to an address that this machine does not have", "name", g.cfg.Advertise, "address", foreign)
			return foreign, nil
		case attempt%20 == 0 && foreign == "":
			g.cfg.Log.Warn("cannot look up the advertised name, trying again", "name", g.cfg.Advertise, "error", err)
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("look up %s: %w", g.cfg.Advertise, errors.Join(err, ctx.Err()))
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// choose returns the first address that is this machine's, and the first that
// is not; IPv4 before IPv6, "" for none.
func choose(addrs []net.IPAddr, isOwn func(net.IP) bool) (own, foreign string) {
	for _, wantV4 := range []bool{true, false} {
		for _, a := range addrs {
			switch {
			case (a.IP.To4() != nil) != wantV4:
			case isOwn(a.IP):
				own = cmp.Or(own, a.IP.String())
			default:
				foreign = cmp.Or(foreign, a.IP.String())
			}
		}
	}
	return own, foreign
}

// onThisMachine reports whether this machine has an address. Where it cannot say it
// has any.
func onThisMachine(ip net.IP) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil || ip.IsLoopback() {
		return true
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip) {
			return true
		}
	}
	return false
}
