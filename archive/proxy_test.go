package archive_test

import (
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy stands between the archive and Postgres, to break connections.
type proxy struct {
	t   *testing.T
	url string
	// left is how many bytes still get to Postgres; negative: all.
	left   atomic.Int64
	closed chan struct{}

	mu     sync.Mutex
	target string
	conns  []*net.TCPConn // of clients
	ups    []*net.TCPConn // to Postgres
}

func newProxy(t *testing.T, dsn string) *proxy {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, target: u.Host, closed: make(chan struct{})}
	p.left.Store(-1)
	u.Host = l.Addr().String()
	p.url = u.String()
	t.Cleanup(func() { close(p.closed); _ = l.Close(); p.cut("request") })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.serve(c.(*net.TCPConn))
		}
	}()
	return p
}

func (p *proxy) serve(c *net.TCPConn) {
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	up, err := net.Dial("tcp", target)
	if err != nil {
		_ = c.Close()
		return
	}
	p.mu.Lock()
	p.conns, p.ups = append(p.conns, c), append(p.ups, up.(*net.TCPConn))
	p.mu.Unlock()
	go p.pipe(up, c, &p.left)
	go p.pipe(c, up, nil)
}

// pipe leads on what comes, while there is some left.
func (p *proxy) pipe(to, from net.Conn, left *atomic.Int64) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		silent := false
		if left != nil && left.Load() >= 0 {
			silent = left.Add(-int64(n)) < 0
		}
		if silent { // neither end learns of it
			n = max(0, n+int(left.Swap(0)))
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if silent {
			<-p.closed
		}
		if err != nil || silent {
			return
		}
	}
}

// cut loses what follows: the request (nothing reaches Postgres any more), or
// only the answer (what is sent next reaches it).
func (p *proxy) cut(lost string) {
	p.mu.Lock()
	conns, ups := p.conns, p.ups
	p.conns, p.ups = nil, nil
	p.mu.Unlock()
	if lost == "request" {
		for i := range conns {
			_ = conns[i].Close()
			_ = ups[i].Close()
		}
		return
	}
	for i := range conns {
		_ = ups[i].CloseRead() // Postgres' answers end here
		go func() {
			time.Sleep(100 * time.Millisecond)
			_ = conns[i].Close()
			_ = ups[i].Close()
		}()
	}
}
