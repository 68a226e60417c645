//go:build deploy

package scripts_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// front is a load balancer of TCP connections: each goes to the next of the
// present addresses.
type front struct {
	address string

	mu    sync.Mutex
	to    []string
	next  int
	conns map[net.Conn]bool
}

func startFront(t *testing.T, to []string) *front {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{address: l.Addr().String(), to: to, conns: map[net.Conn]bool{}}
	t.Cleanup(func() {
		_ = l.Close()
		f.turn(nil)
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f.carry(c)
		}
	}()
	return f
}

// turn sends new connections to other addresses and ends the present ones.
func (f *front) turn(to []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.to = to
	for c := range f.conns {
		_ = c.Close()
	}
	clear(f.conns)
}

func (f *front) carry(c net.Conn) {
	defer c.Close()
	f.mu.Lock()
	if len(f.to) == 0 {
		f.mu.Unlock()
		return
	}
	to := f.to[f.next%len(f.to)]
	f.next++
	f.conns[c] = true
	f.mu.Unlock()
	up, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer up.Close()
	go func() {
		_, _ = io.Copy(up, c)
		_ = up.Close()
	}()
	_, _ = io.Copy(c, up)
}
