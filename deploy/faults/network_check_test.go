package faults

import (
	"net"
	"testing"
	"time"
)

// A cut network is really cut: one way, both ways, and whole again.
func TestNetworkCuts(t *testing.T) {
	n, err := newNetwork(2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.close)
	var sockets [2]net.PacketConn
	for i := range sockets {
		err := n.on(i, func() (err error) {
			sockets[i], err = net.ListenPacket("udp", n.ip(i)+":7946")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		defer sockets[i].Close()
	}
	arrives := func(from, to int) bool {
		buffer := make([]byte, 16)
		for range 3 {
			if _, err := sockets[from].WriteTo([]byte("ping"), sockets[to].LocalAddr()); err != nil {
				t.Fatal(err)
			}
			_ = sockets[to].SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			if _, _, err := sockets[to].ReadFrom(buffer); err == nil {
				return true
			}
		}
		return false
	}
	for _, c := range []struct {
		name         string
		broken       func(a, b int) bool
		there, back_ bool
	}{
		{"whole", func(int, int) bool { return false }, true, true},
		{"one way", func(a, _ int) bool { return a == 0 }, false, true},
		{"the other", func(a, _ int) bool { return a == 1 }, true, false},
		{"both", func(int, int) bool { return true }, false, false},
		{"healed", func(int, int) bool { return false }, true, true},
	} {
		if err := n.cut(c.broken); err != nil {
			t.Fatal(err)
		}
		if there, back := arrives(0, 1), arrives(1, 0); there != c.there || back != c.back_ {
			t.Errorf("%s: arrives %v and back %v, want %v and %v", c.name, there, back, c.there, c.back_)
		}
	}
}
