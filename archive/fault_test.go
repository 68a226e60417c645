package archive_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/archive"
	"github.com/org/envoy-control-plane/deploy/local"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

var errDead = errors.New("dead")

// A writer dies at every step, once and in every batch; the next leader goes on.
func TestCrashAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, step := range archive.Steps {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			dsn, l := local.TestDatabase(t), newLog(t, "c", "e")
			l.putFleet("default", "edge", "ann")
			for term := uint64(1); term <= 3; term++ {
				for i := range 5 {
					l.change("edge", []*fsmpb.Resource{cluster("web", fmt.Sprint(term, i))})
					l.report(connected(fmt.Sprint("p", term), uint64(i+1)))
				}
				died := make(chan struct{})
				var once sync.Once
				w := l.start(dsn, term, with(func(c *archive.Config) { c.BatchEvents = 4 }), at(func(s string) error {
					if s != step {
						return nil
					}
					once.Do(func() { close(died) })
					return errDead // it stays dead
				}))
				<-died
				w.stop()
			}
			l.start(dsn, 4)
			l.drained()
			open(t, dsn).wantOnce("e", 0, l.State().Seq())
		})
	}
}

// The connection breaks while the commit is under way: only Postgres knows
// whether it holds, and the writer asks.
func TestCommitInDoubt(t *testing.T) {
	t.Parallel()
	for _, lost := range []string{"request", "answer"} {
		t.Run(lost, func(t *testing.T) {
			t.Parallel()
			dsn, l := local.TestDatabase(t), newLog(t, "c", "e")
			p := newProxy(t, dsn)
			var cut atomic.Int32
			l.start(p.url, 1, at(func(s string) error {
				if s == "commit" && cut.Add(1) <= 3 {
					p.cut(lost)
				}
				return nil
			}))
			for n := int32(1); n <= 4; n++ {
				l.putFleet("default", "edge", "ann")
				eventually(t, "another commit", func() bool { return cut.Load() >= n })
			}
			l.drained()
			open(t, dsn).wantOnce("e", 0, l.State().Seq())
		})
	}
}

// An old leader that does not know yet is held at a step while the new one
// takes over; what it does afterwards changes nothing.
func TestOlderLeaderIsFenced(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"claim", "cursor", "rows", "commit", "ack"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			dsn, l := local.TestDatabase(t), newLog(t, "c", "e")
			l.putFleet("default", "edge", "ann")
			held, release := make(chan struct{}), make(chan struct{})
			var once sync.Once
			var after atomic.Int32
			old := l.start(dsn, 5, at(func(s string) error {
				if s == step {
					once.Do(func() { close(held); <-release })
				}
				select {
				case <-release:
					if s == "rows" {
						after.Add(1) // it has moved the cursor
					}
				default:
				}
				return nil
			}))
			<-held
			l.start(dsn, 6)
			if step == "rows" || step == "commit" {
				// It holds the cursor's lock: the new one waits for it.
				time.Sleep(50 * time.Millisecond)
				close(release)
				l.drained()
			} else {
				l.drained()
				close(release)
			}
			for range 5 {
				l.putFleet("default", "edge", "bob")
			}
			l.drained()
			time.Sleep(100 * time.Millisecond)
			old.stop()
			// One that holds the lock may be first once more; one that comes
			// after the claim must never be.
			if n := after.Load(); n > 0 && step != "rows" && step != "commit" {
				t.Errorf("the old leader moved the cursor %d times", n)
			}
			d := open(t, dsn)
			d.wantOnce("e", 0, l.State().Seq())
			d.want("6 node-6", "SELECT concat_ws(' ', term, node) FROM archive_cursor")
			d.want("0", "SELECT count(*) FROM archive_gaps")
		})
	}
}

func TestTwoThatBothBelieveThatTheyLead(t *testing.T) {
	t.Parallel()
	dsn, l := local.TestDatabase(t), newLog(t, "c", "e")
	small := with(func(c *archive.Config) { c.BatchEvents = 2 })
	for term := range uint64(3) {
		l.start(dsn, term+1, small)
	}
	for range 100 {
		l.putFleet("default", "edge", "ann")
	}
	l.drained()
	open(t, dsn).wantOnce("e", 0, l.State().Seq())
}

func TestDatabaseDownAndBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pg, err := local.StartPostgres(t.Context(), local.PostgresOptions{Dir: dir, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	port := pg.Port
	l := newLog(t, "c", "e")
	w := l.start(pg.URL, 1)
	l.putFleet("default", "edge", "ann")
	l.drained()
	pg.Kill()
	// It is noticed without anything to write.
	eventually(t, "down", func() bool { return w.Status().State == archive.StateDown })
	for range 50 {
		l.putFleet("default", "edge", "ann")
	}
	if s := w.Status(); s.OutboxBytes == 0 || s.LastSeq != s.ArchivedSeq+50 {
		t.Fatalf("status %+v", s)
	}
	if _, _, err := w.History(t.Context(), archive.HistoryQuery{Tenant: "default"}); fsm.CodeOf(err) != fsm.CodeUnavailable {
		t.Fatalf("history: %v", err)
	}
	pg, err = local.StartPostgres(t.Context(), local.PostgresOptions{Dir: dir, Port: port, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		pg.Kill()
		if err := os.RemoveAll(pg.Dir); err != nil {
			t.Error(err)
		}
	})
	l.drained()
	eventually(t, "ok", func() bool { return w.Status().State == archive.StateOK })
	open(t, pg.URL).wantOnce("e", 0, l.State().Seq())
	w.stop()
}

// The database was up at no time before: the archive starts all the same.
func TestDatabaseThatComesLate(t *testing.T) {
	t.Parallel()
	l := newLog(t, "c", "e")
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	w := l.start("postgres://nobody@"+closed.Addr().String()+"/none", 1)
	eventually(t, "down", func() bool { return w.Status().State == archive.StateDown })
}

// A standby that misses the last transactions is promoted: what it misses is
// written again from the replay window.
func TestPostgresLosesItsLastTransactions(t *testing.T) {
	t.Parallel()
	dsn, l := local.TestDatabase(t), newLog(t, "c", "e")
	l.start(dsn, 1)
	for range 20 {
		l.putFleet("default", "edge", "ann")
		l.change("edge", []*fsmpb.Resource{cluster("web", fmt.Sprint(l.State().Index()))})
	}
	l.drained()
	d := open(t, dsn)
	d.run(`WITH e AS (DELETE FROM fleet_events WHERE seq > 10), r AS (DELETE FROM fleet_revisions WHERE seq > 10),
		x AS (DELETE FROM fleet_revision_resources WHERE seq > 10) UPDATE archive_cursor SET seq = 10`)
	eventually(t, "filled again", func() bool {
		return d.text("SELECT seq FROM archive_cursor") == fmt.Sprint(l.State().Seq())
	})
	d.wantOnce("e", 0, l.State().Seq())
	d.want("0", "SELECT count(*) FROM archive_gaps")
}

// What the outbox could not keep is a row that says so, and the rest goes on.
func TestGapIsWritten(t *testing.T) {
	t.Parallel()
	dsn, l := local.TestDatabase(t), newLog(t, "c", "e")
	l.putFleet("default", "edge", "ann")
	gap := with(func(c *archive.Config) {
		c.Overflow, c.MaxOutboxBytes, c.ReplayWindow = fsmpb.ArchiveSettings_GAP, 1000, time.Millisecond
	})
	w := l.start(dsn, 1, gap)
	l.drained()
	w.stop()
	stored := l.State().Seq()
	l.report(connected("p1", 1))
	for range 100 {
		l.putFleet("default", "edge", "ann")
	}
	st := l.State()
	if st.FirstSeq() < stored+50 {
		t.Fatalf("nothing was dropped: first is %d", st.FirstSeq())
	}
	l.start(dsn, 2, gap)
	l.drained()
	d := open(t, dsn)
	d.want(fmt.Sprintf("%d %d", stored+1, st.FirstSeq()-1), "SELECT concat_ws(' ', from_seq, to_seq) FROM archive_gaps")
	d.run("DELETE FROM fleet_events WHERE seq <= $1", int64(stored))
	d.wantOnce("e", st.FirstSeq()-1, l.State().Seq())
	// The row of a proxy whose event is lost is there.
	d.want("p1 connected", "SELECT concat_ws(' ', id, status) FROM envoy_proxies")
}

// A failing cluster is no failing archive: the cursor waits for its ack.
func TestAcknowledgementsAreRepeated(t *testing.T) {
	t.Parallel()
	dsn, l := local.TestDatabase(t), newLog(t, "c", "e")
	var failed atomic.Int32
	l.mu.Lock()
	l.refuse = func(c *fsmpb.Command) error {
		if c.GetAckArchived() != nil && failed.Add(1) <= 2 {
			return fsm.Refusal(fsm.CodeOutcomeUnknown, "who knows")
		}
		return nil
	}
	l.mu.Unlock()
	w := l.start(dsn, 1)
	l.drained()
	if failed.Load() < 3 || w.Status().State != archive.StateOK {
		t.Fatalf("%d acks, %+v", failed.Load(), w.Status())
	}
	open(t, dsn).wantOnce("e", 0, l.State().Seq())
}
