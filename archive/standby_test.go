package archive_test

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/org/envoy-control-plane/archive"
	"github.com/org/envoy-control-plane/deploy/local"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// pair is a primary and its asynchronous standby.
type pair struct {
	t                *testing.T
	primary, standby *local.Postgres
	link             *proxy // between them
}

func newPair(t *testing.T) *pair {
	t.Helper()
	dir := t.TempDir()
	p := &pair{t: t}
	first := p.start(local.PostgresOptions{Dir: filepath.Join(dir, "one")})
	if err := first.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	two := filepath.Join(dir, "two")
	if err := local.CopyPostgres(t.Context(), first, two); err != nil {
		t.Fatal(err)
	}
	p.primary = p.start(local.PostgresOptions{Dir: filepath.Join(dir, "one"), Port: first.Port})
	p.link = newProxy(t, p.primary.URL)
	p.standby = p.start(local.PostgresOptions{Dir: two, Follow: p.link.url})
	return p
}

func (p *pair) start(o local.PostgresOptions) *local.Postgres {
	p.t.Helper()
	o.NoSync = true
	server, err := local.StartPostgres(p.t.Context(), o)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		server.Kill()
		if err := os.RemoveAll(server.Dir); err != nil {
			p.t.Error(err)
		}
	})
	return server
}

// url names both, and asks for the one that can be written to.
func (p *pair) url() string {
	one, err := url.Parse(p.primary.URL)
	if err != nil {
		p.t.Fatal(err)
	}
	password, _ := one.User.Password()
	return fmt.Sprintf("host=127.0.0.1,127.0.0.1 port=%d,%d user=%s password=%s dbname=ecp sslmode=disable target_session_attrs=read-write",
		p.primary.Port, p.standby.Port, one.User.Username(), password)
}

// cutOff ends the replication for good.
func (p *pair) cutOff() {
	p.link.mu.Lock()
	p.link.target = "127.0.0.1:1" // nobody
	p.link.mu.Unlock()
	p.link.cut("request")
}

// failOver kills the primary and promotes the standby.
func (p *pair) failOver() {
	p.t.Helper()
	p.primary.Kill()
	if err := p.standby.Promote(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
}

// The primary dies with transactions that its standby never got. The standby is
// promoted; what is missing is written again while the replay window has it,
// and what it has not is a gap.
func TestStandbyThatMissesTheLastTransactions(t *testing.T) {
	t.Parallel()
	for name, window := range map[string]time.Duration{"within the window": time.Hour, "beyond the window": time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, l := newPair(t), newLog(t, "c", "e")
			registry := prometheus.NewRegistry()
			w := l.start(p.url(), 1, func(c *archive.Config, d *archive.Deps, _ *archive.Archive) {
				c.ReplayWindow, d.Registry = window, registry
			})
			write := func(n int) uint64 {
				for range n {
					l.putFleet("default", "edge", "ann")
					l.change("edge", []*fsmpb.Resource{cluster("web", fmt.Sprint(l.State().Index()))})
				}
				l.drained()
				return l.State().Seq()
			}
			has := write(20)
			standby := open(t, p.standby.URL)
			eventually(t, "the standby has it", func() bool {
				var seq int64
				err := standby.QueryRow(t.Context(), "SELECT seq FROM archive_cursor").Scan(&seq)
				return err == nil && uint64(seq) == has
			})
			p.cutOff()
			write(20)
			l.advance(2 * time.Second)
			last := write(5)
			standby.want(fmt.Sprint(has), "SELECT seq FROM archive_cursor")
			p.failOver()
			eventually(t, "what it missed is there again", func() bool { return standby.text("SELECT seq FROM archive_cursor") == fmt.Sprint(last) })
			eventually(t, "ok", func() bool { return w.Status().State == archive.StateOK })
			from, lost := uint64(0), uint64(0)
			if window < time.Hour {
				from = last - 10
				lost = from - has
				standby.want(fmt.Sprintf("%d %d", has+1, from), "SELECT concat_ws(' ', from_seq, to_seq) FROM archive_gaps")
				standby.run("DELETE FROM fleet_events WHERE seq <= $1", int64(has))
				standby.run("DELETE FROM fleet_revisions WHERE seq <= $1", int64(has))
			} else {
				standby.want("0", "SELECT count(*) FROM archive_gaps")
			}
			standby.wantOnce("e", from, write(5))
			gaps := fmt.Sprintf("# HELP ecp_archive_gap_events_total Events that were gone before this node could store them.\n"+
				"# TYPE ecp_archive_gap_events_total counter\necp_archive_gap_events_total %d\n", lost)
			if err := testutil.GatherAndCompare(registry, strings.NewReader(gaps), "ecp_archive_gap_events_total"); err != nil {
				t.Error(err)
			}
		})
	}
}
