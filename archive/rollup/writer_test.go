package rollup

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	dto "github.com/prometheus/client_model/go"

	"github.com/org/envoy-control-plane/deploy/local"
	"github.com/org/envoy-control-plane/migrations"
)

// database returns the URL of one with our tables, and a connection to it.
func database(t testing.TB) (string, *pgx.Conn) {
	t.Helper()
	dsn := local.TestDatabase(t)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	if _, err := migrations.Apply(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	return dsn, conn
}

// run runs a collector until the test ends or stop is called.
func (c *Collector) run(t testing.TB) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Error("Run does not return")
		}
	})
	t.Cleanup(stop)
	return stop
}

func wantText(t testing.TB, conn *pgx.Conn, want, sql string) {
	t.Helper()
	local.Eventually(t, 20*time.Second, sql, func() error {
		var got string
		if err := conn.QueryRow(t.Context(), "SELECT coalesce(("+sql+")::text, '')").Scan(&got); err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("got %s, want %s", got, want)
		}
		return nil
	})
}

func (c *Collector) dropped(why reason) float64 {
	var m dto.Metric
	_ = c.metrics.dropped[why].Write(&m)
	return m.GetCounter().GetValue()
}

func TestRowsAreWritten(t *testing.T) {
	dsn, conn := database(t)
	c := newCollector(t, func(c *Config) { c.DatabaseURL = dsn })
	stop := c.run(t)
	s := c.open(t, `p "1" é`)
	take(t, s, noon, counted("rq", "class=5", 10), gauged("cx", "", 2), observed("time", 3, 30, 10, 1, 25, 2))
	take(t, s, noon.Add(time.Minute), counted("rq", "class=5", 15))
	wantText(t, conn, `rq {"class": "5"} counter 1 0 - - 10; cx {} gauge 1 2 2 2 2; time {} histogram 3 30 - - -`,
		`SELECT string_agg(concat_ws(' ', name, labels, kind, count, sum, coalesce(min::text, '-'), coalesce(max::text, '-'), coalesce(last::text, '-')), '; ' ORDER BY kind, name)
		FROM proxy_metrics WHERE cluster = 'c' AND at = '2026-11-27 12:00+00' AND tenant = 'default' AND fleet = 'edge' AND proxy = 'p "1" é' AND node = 'n1'`)
	wantText(t, conn, "{10,25}{1,1}", `SELECT le::text || counts::text FROM proxy_metrics WHERE name = 'time'`)
	s.Close()
	stop() // writes what is left
	wantText(t, conn, "5", `SELECT sum FROM proxy_metrics WHERE at > '2026-11-27 12:00+00'`)
}

// gate stands before a database and shuts.
type gate struct {
	to  string
	url string

	mu    sync.Mutex
	shut  bool
	conns []net.Conn
}

func newGate(t testing.TB, dsn string) *gate {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{to: u.Host}
	u.Host = ln.Addr().String()
	g.url = u.String()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			g.pass(conn)
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-done
		g.set(true)
	})
	return g
}

func (g *gate) pass(conn net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	to, err := net.Dial("tcp", g.to)
	if err != nil || g.shut {
		_ = conn.Close()
		return
	}
	g.conns = append(g.conns, conn, to)
	local.Pipe(conn, to)
}

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut = shut; shut {
		for _, c := range g.conns {
			_ = c.Close()
		}
		g.conns = nil
	}
}

// A database that goes away costs the rows that find no room in the queue; nobody
// waits for it, and none is written twice.
func TestDatabaseAway(t *testing.T) {
	dsn, conn := database(t)
	g := newGate(t, dsn)
	c := newCollector(t, func(c *Config) { c.DatabaseURL, c.QueueRows, c.BatchRows = g.url, 50, 20 })
	c.run(t)
	s := c.open(t, "p1")
	minute := 0
	send := func(minutes int) {
		for range minutes {
			take(t, s, noon.Add(time.Duration(minute)*time.Minute), gauged("g", "", float64(minute)))
			minute++
		}
	}
	send(11)
	wantText(t, conn, "10", "SELECT count(*) FROM proxy_metrics")
	g.set(true)
	began := time.Now()
	send(200)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("%v for 200 messages without a database", took)
	}
	if n := c.dropped(queueFull) + c.dropped(failed); n < 150 {
		t.Errorf("%g rows were dropped of 200 with room for 50", n)
	}
	g.set(false)
	local.Eventually(t, 30*time.Second, "the queue is written", func() error {
		if n := c.queue.len(); n > 0 {
			return fmt.Errorf("%d rows wait", n)
		}
		return nil
	})
	send(10)
	s.Close()
	kept := minute - int(c.dropped(queueFull)+c.dropped(failed))
	wantText(t, conn, fmt.Sprintf("(%d,%d)", kept, kept), "SELECT (count(*), count(DISTINCT at)) FROM proxy_metrics")
}

// A database that accepts and says nothing holds up neither streams nor the end.
func TestDatabaseHangs(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c := newCollector(t, func(c *Config) {
		c.DatabaseURL, c.Timeout = "postgres://u@"+ln.Addr().String()+"/d?sslmode=disable", 300*time.Millisecond
	})
	stop := c.run(t)
	s := c.open(t, "p1")
	began := time.Now()
	for i := range 100 {
		take(t, s, noon.Add(time.Duration(i)*time.Minute), gauged("g", "", 1))
	}
	s.Close()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("%v for 100 messages", took)
	}
	began = time.Now()
	stop()
	if took := time.Since(began); took > lastWrite+2*time.Second {
		t.Errorf("Run took %v to end", took)
	}
	if n := c.dropped(failed); n != 100 {
		t.Errorf("%g rows were dropped, want all", n)
	}
}

// Who holds the table, or has none of it, costs the rows of the meanwhile.
func TestTableIsLockedOrMissing(t *testing.T) {
	dsn, conn := database(t)
	c := newCollector(t, func(c *Config) { c.DatabaseURL = dsn })
	c.run(t)
	s := c.open(t, "p1")
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for i, sql := range []string{"BEGIN; LOCK TABLE proxy_metrics IN ACCESS EXCLUSIVE MODE", "BEGIN; ROLLBACK; ALTER TABLE proxy_metrics RENAME TO away"} {
		exec(sql)
		take(t, s, noon.Add(time.Duration(2*i)*time.Minute), gauged("g", "", 1))
		take(t, s, noon.Add(time.Duration(2*i+1)*time.Minute), gauged("g", "", 1))
		local.Eventually(t, 20*time.Second, "dropped", func() error {
			if n := c.dropped(failed); n < float64(i+1) {
				return fmt.Errorf("%g rows", n)
			}
			return nil
		})
		if i == 0 {
			exec("COMMIT")
		} else {
			exec("ALTER TABLE away RENAME TO proxy_metrics")
		}
	}
	take(t, s, noon.Add(time.Hour), gauged("g", "", 1))
	take(t, s, noon.Add(2*time.Hour), gauged("g", "", 7))
	wantText(t, conn, "true", "SELECT count(*) > 0 FROM proxy_metrics WHERE at = '2026-11-27 13:00+00'")
}

// Before the cluster is founded rows wait.
func TestNoClusterYet(t *testing.T) {
	dsn, conn := database(t)
	c := newCollector(t, func(c *Config) { c.DatabaseURL = dsn })
	var mu sync.Mutex
	cluster := ""
	c.cluster = func() string {
		mu.Lock()
		defer mu.Unlock()
		return cluster
	}
	c.run(t)
	s := c.open(t, "p1")
	take(t, s, noon, gauged("g", "", 1))
	s.Close()
	time.Sleep(100 * time.Millisecond)
	mu.Lock()
	cluster = "late"
	mu.Unlock()
	wantText(t, conn, "late", "SELECT cluster FROM proxy_metrics")
}
