package local

import (
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
)

// Loopback is a port of 127.0.0.1 as host:port.
func Loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// FreePorts returns n loopback ports that nobody had a moment ago, neither for
// TCP nor for UDP. They lie below those that the system gives to connections:
// with thousands of these on the machine, one of them would take a port before
// the process that it is for.
func FreePorts(n int) ([]int, error) {
	var ports []int
	for range 1000 + n {
		if len(ports) == n {
			return ports, nil
		}
		if port := 11_000 + rand.IntN(21_000); !slices.Contains(ports, port) && isFree(port) {
			ports = append(ports, port)
		}
	}
	return nil, errors.New("no free ports")
}

func isFree(port int) bool {
	loopback := net.IPv4(127, 0, 0, 1)
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: loopback, Port: port})
	if err != nil {
		return false
	}
	defer l.Close()
	u, err := net.ListenUDP("udp", &net.UDPAddr{IP: loopback, Port: port})
	if err != nil {
		return false
	}
	defer u.Close()
	return true
}
