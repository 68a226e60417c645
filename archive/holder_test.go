package archive_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/archive"
	"github.com/org/envoy-control-plane/deploy/local"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// The writer's connection goes silent in the midst of a COPY, while it holds
// the cursor's lock: to Postgres it is alive for as long as TCP has it so, and
// nothing there times out. Whoever writes next ends it.
func TestWriterVanishesInTheMidstOfACopy(t *testing.T) {
	t.Parallel()
	for _, next := range []uint64{1, 2} { // a new connection of the same leader, or another one
		t.Run(fmt.Sprint("term ", next), func(t *testing.T) {
			t.Parallel()
			dsn, l := local.TestDatabase(t), newLog(t, "c", "e")
			l.putFleet("default", "edge", "ann")
			p := newProxy(t, dsn)
			var armed atomic.Bool
			silent := make(chan struct{})
			w := l.start(p.url, 1, with(func(c *archive.Config) { c.Timeout = 8 * time.Second }), at(func(s string) error {
				if s == "rows" && armed.CompareAndSwap(true, false) {
					p.left.Store(20_000) // in the midst of what follows
					close(silent)
				}
				return nil
			}))
			l.drained()
			armed.Store(true)
			l.change("edge", []*fsmpb.Resource{cluster("web", strings.Repeat("x", 100_000))})
			<-silent
			d := open(t, dsn)
			eventually(t, "a backend waits for COPY's data", func() bool {
				return d.text(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
					AND query ILIKE 'copy%' AND wait_event = 'ClientRead' AND state = 'active'`) == "1"
			})
			if next == 1 {
				p.left.Store(-1) // for other connections
			} else {
				w.lead(false, 1)
				l.start(dsn, next)
			}
			began := time.Now()
			l.drained()
			if took := time.Since(began); took > 18*time.Second {
				t.Errorf("it took %s", took)
			}
			d.wantOnce("e", 0, l.State().Seq())
			d.want(fmt.Sprint(next), "SELECT term FROM archive_cursor")
		})
	}
}

// Who keeps a row of the archive's for himself and is no writer is waited for.
func TestOthersAreNotEnded(t *testing.T) {
	t.Parallel()
	dsn, l := local.TestDatabase(t), newLog(t, "c", "e")
	w := l.start(dsn, 1)
	l.drained()
	other := open(t, dsn)
	other.run("BEGIN")
	other.run("SELECT FROM archive_cursor FOR UPDATE")
	l.putFleet("default", "edge", "ann")
	eventually(t, "down", func() bool { return strings.Contains(w.Status().Error, "55P03") })
	time.Sleep(6 * time.Second) // a claim waits, and looks who it is
	other.run("COMMIT")
	l.drained()
	open(t, dsn).wantOnce("e", 0, l.State().Seq())
}

// The same for the digest, of which a vanished leader holds another row.
func TestDigestIsTakenOver(t *testing.T) {
	t.Parallel()
	dsn, l := local.TestDatabase(t), newLog(t, "c", "e")
	l.start(dsn, 1)
	l.drained()
	d := open(t, dsn)
	digested := func() bool { return d.text("SELECT seq FROM archive_digests") == fmt.Sprint(l.State().Seq()) }
	eventually(t, "the digest", digested)
	vanished := open(t, dsn+"&application_name=envoy-control-plane")
	vanished.run("BEGIN")
	vanished.run("SELECT FROM archive_digests FOR UPDATE")
	l.report(connected("p1", 1))
	l.drained()
	time.Sleep(10 * time.Second) // lock_timeout, and a while until the next attempt
	eventually(t, "the digest again", digested)
	d.want("p1", "SELECT proxy FROM proxy_status")
}
