package gossip

import (
	"net"
	"testing"
)

func TestChooseOwnAddress(t *testing.T) {
	const mine, mine6, old, old6 = "10.0.0.1", "fd00::1", "10.0.0.2", "fd00::2"
	isOwn := func(ip net.IP) bool { return ip.String() == mine || ip.String() == mine6 }
	for _, c := range []struct {
		found        []string
		own, foreign string
	}{
		{nil, "", ""},
		{[]string{old}, "", old},
		{[]string{old, mine}, mine, old},
		{[]string{mine6, mine, old6}, mine, old6},
		{[]string{old6, old}, "", old},
		{[]string{mine6}, mine6, ""},
	} {
		var addrs []net.IPAddr
		for _, text := range c.found {
			addrs = append(addrs, net.IPAddr{IP: net.ParseIP(text)})
		}
		if own, foreign := choose(addrs, isOwn); own != c.own || foreign != c.foreign {
			t.Errorf("%q: own %q, foreign %q; want %q and %q", c.found, own, foreign, c.own, c.foreign)
		}
	}
	if !onThisMachine(net.ParseIP("127.0.0.1")) || onThisMachine(net.ParseIP("192.0.2.1")) {
		t.Error("a loopback address is own, one of a documentation network is not")
	}
}
