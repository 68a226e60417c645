package cluster

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/fsm"
)

func TestLeaderKilledAndAllRestarted(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 3, nil)
	upAll(sites)
	awaitReady(t, sites...)
	for i := range 30 {
		propose(t, sites[i%3].node, fmt.Sprintf("t%d", i))
	}
	old := leader(t, sites)
	old.kill()
	began := time.Now()
	propose(t, others(sites, old)[0].node, "after-kill")
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("next write after %s", took)
	} else {
		t.Logf("next write after %s", took)
	}
	old.up()
	awaitReady(t, old)
	if !hasTenant(old.node, "after-kill") {
		t.Error("ready before it caught up")
	}
	before := old.node.State()
	for _, s := range sites {
		s.kill()
	}
	upAll(sites)
	awaitReady(t, sites...)
	eventually(t, 5*time.Second, "equal states", func() bool {
		want, err := sites[0].node.State().Hash()
		must(t, err)
		return !slices.ContainsFunc(sites, func(s *site) bool {
			got, err := s.node.State().Hash()
			return err != nil || got != want
		})
	})
	for ev := range sites[0].node.State().Events(before.Seq()) {
		if ev.GetLeaderElected() == nil {
			t.Errorf("more than before: %v", ev)
		}
	}
	for i := range 30 {
		if !hasTenant(old.node, fmt.Sprintf("t%d", i)) {
			t.Errorf("t%d is lost", i)
		}
	}
	propose(t, sites[0].node, "after-restart")
}

// A client that writes without pause to a follower sees no error and no unknown
// outcome while every node is restarted gracefully. A write that had to wait
// for an election would take more than a second here.
func TestRollingRestartRefusesNobody(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 3, func(_ int, c *Config, _ *Deps) {
		c.Heartbeat, c.Election, c.Lease = time.Second, time.Second, 900*time.Millisecond
	})
	upAll(sites)
	awaitReady(t, sites...)
	for round, s := range sites {
		// The node that leaves next leads.
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		must(t, s.node.TransferLeadership(ctx, s.cfg.NodeID))
		eventually(t, 5*time.Second, "it leads", func() bool { term, _ := s.node.Leadership(); return term != 0 })
		var (
			stop  atomic.Bool
			worst atomic.Int64
			wg    sync.WaitGroup
		)
		for w, o := range others(sites, s) {
			wg.Go(func() {
				for i := 0; !stop.Load(); i++ {
					began := time.Now()
					proposeOnce(t, o.node, fmt.Sprintf("r%d-%d-%d", round, w, i))
					if took := int64(time.Since(began)); took > worst.Load() {
						worst.Store(took)
					}
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		must(t, s.node.Leave(ctx))
		cancel()
		s.wait()
		time.Sleep(100 * time.Millisecond)
		stop.Store(true)
		wg.Wait()
		t.Logf("%s left: longest write %s", s.cfg.NodeID, time.Duration(worst.Load()))
		if worst.Load() > int64(time.Second) {
			t.Errorf("%s left: a write took %s", s.cfg.NodeID, time.Duration(worst.Load()))
		}
		if got := len(servers(others(sites, s)[0].node)); got != 3 {
			t.Errorf("a leave is no removal, but there are %d servers", got)
		}
		s.up()
		awaitReady(t, s)
	}
}

func TestWritesWithoutALeader(t *testing.T) {
	t.Parallel()
	w := newNetwork()
	sites := newSites(t, 3, func(i int, c *Config, d *Deps) {
		c.Failover = 500 * time.Millisecond
		w.plug(i, c, d)
	})
	upAll(sites)
	awaitReady(t, sites...)
	lead := leader(t, sites)
	w.split(at(sites, lead))
	// In flight when it is cut off: nobody can know.
	_, err := lead.node.Propose(context.Background(), putTenant("in-flight"))
	if fsm.CodeOf(err) != fsm.CodeOutcomeUnknown {
		t.Errorf("in flight: %v", err)
	}
	eventually(t, 3*time.Second, "it steps down", func() bool { return !lead.node.IsLeader() })
	began := time.Now()
	_, err = lead.node.Propose(context.Background(), putTenant("too-late"))
	if fsm.CodeOf(err) != fsm.CodeNoLeader {
		t.Errorf("without a leader: %v", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %s to say so", took)
	}
	if _, err := lead.node.ReadIndex(context.Background()); err == nil {
		t.Error("a strong read without a majority")
	}
	if lead.node.Health().Leader != "" || len(lead.node.Health().Reasons) == 0 || !lead.node.Ready() {
		t.Errorf("health %+v: degraded, but ready", lead.node.Health())
	}
	w.heal()
	propose(t, lead.node, "healed")
	for _, s := range sites {
		if hasTenant(s.node, "too-late") {
			t.Error("a refused write was applied")
		}
	}
}

// Writes under a key are tried again after an unknown outcome, and apply once.
func TestKeyedWritesSurviveALeaderKill(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 3, func(_ int, c *Config, _ *Deps) { c.Failover = 5 * time.Second })
	upAll(sites)
	awaitReady(t, sites...)
	old := leader(t, sites)
	through := others(sites, old)
	var (
		stop atomic.Bool
		wg   sync.WaitGroup
		done atomic.Int64
	)
	for w := range 8 {
		wg.Go(func() {
			for i := 0; !stop.Load(); i++ {
				name := fmt.Sprintf("k%d-%d", w, i)
				if r := propose(t, through[w%2].node, name); !r.Created {
					t.Errorf("%s was applied twice: %v", name, r)
				}
				done.Add(1)
			}
		})
	}
	time.Sleep(200 * time.Millisecond)
	old.kill()
	time.Sleep(1500 * time.Millisecond)
	stop.Store(true)
	wg.Wait()
	t.Logf("%d writes", done.Load())
}

// A leader that hangs as a process keeps its connections: a write that went to
// it is given up once another one leads, and tried again there.
func TestFrozenLeaderHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	w := newNetwork()
	sites := newSites(t, 3, func(i int, c *Config, d *Deps) {
		c.Failover = 5 * time.Second
		w.plug(i, c, d)
	})
	upAll(sites)
	awaitReady(t, sites...)
	old := leader(t, sites)
	through := others(sites, old)[0]
	w.freeze(at(sites, old), true)
	began := time.Now()
	propose(t, through.node, "thawed")
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it took %s", took)
	}
	read, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if _, err := through.node.ReadIndex(read); err != nil {
		t.Errorf("strong read: %v", err)
	}
	w.freeze(at(sites, old), false)
	eventually(t, 15*time.Second, "the old leader follows", func() bool { return hasTenant(old.node, "thawed") })
}

// A strong read that waits for a leader which hangs is asked of its successor,
// before anybody is told that there is no leader.
func TestFrozenLeaderHoldsNoReadUp(t *testing.T) {
	t.Parallel()
	w := newNetwork()
	sites := newSites(t, 3, func(i int, c *Config, d *Deps) {
		c.Failover = 2 * time.Second
		w.plug(i, c, d)
	})
	upAll(sites)
	awaitReady(t, sites...)
	old := leader(t, sites)
	w.freeze(at(sites, old), true)
	var reads sync.WaitGroup
	for _, through := range others(sites, old) {
		reads.Go(func() {
			began := time.Now()
			if _, err := through.node.ReadIndex(t.Context()); err != nil {
				t.Errorf("after %s: %v", time.Since(began), err)
			}
		})
	}
	reads.Wait()
	w.freeze(at(sites, old), false)
}

// A connection to the leader that has gone silent, while the leader leads on, is
// given up long before gRPC does it, and a write that may be repeated arrives
// over a new one.
func TestSilentConnectionIsGivenUp(t *testing.T) {
	t.Parallel()
	w := newNetwork()
	sites := newSites(t, 3, w.plug)
	upAll(sites)
	awaitReady(t, sites...)
	through := others(sites, leader(t, sites))[0]
	propose(t, through.node, "before")
	w.silence(at(sites, through))
	began := time.Now()
	propose(t, through.node, "after")
	if took := time.Since(began); took < forwardLimit/2 || took > forwardLimit+3*time.Second {
		t.Errorf("it took %s", took)
	}
}

// Strong reads on every node, while leadership moves: each covers every write
// that was acknowledged before it began.
func TestStrongReadsAreNeverStale(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 3, nil)
	upAll(sites)
	awaitReady(t, sites...)
	var (
		acked atomic.Uint64
		stop  = make(chan struct{})
		wg    sync.WaitGroup
		reads atomic.Int64
	)
	running := func() bool {
		select {
		case <-stop:
			return false
		default:
			return true
		}
	}
	for w := range 2 {
		wg.Go(func() {
			for i := 0; running(); i++ {
				index := propose(t, sites[(w+i)%3].node, fmt.Sprintf("w%d-%d", w, i)).Index
				for old := acked.Load(); index > old && !acked.CompareAndSwap(old, index); old = acked.Load() {
				}
			}
		})
	}
	for r := range 6 {
		wg.Go(func() {
			for running() {
				want := acked.Load()
				index, err := sites[r%3].node.ReadIndex(context.Background())
				if err != nil {
					t.Errorf("read on %s: %v", sites[r%3].cfg.NodeID, err)
					return
				}
				if index < want {
					t.Errorf("stale read on %s: %d, acknowledged %d", sites[r%3].cfg.NodeID, index, want)
				}
				reads.Add(1)
			}
		})
	}
	for i := range 20 {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		if err := sites[0].node.TransferLeadership(ctx, sites[i%3].cfg.NodeID); err != nil {
			t.Logf("transfer: %v", err)
		}
		cancel()
		time.Sleep(100 * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	t.Logf("%d strong reads, %d writes", reads.Load(), acked.Load())
}

// A leader that was cut off answers no strong read once another one has
// acknowledged a write.
func TestDeposedLeaderAnswersNoStrongRead(t *testing.T) {
	t.Parallel()
	w := newNetwork()
	sites := newSites(t, 3, func(i int, c *Config, d *Deps) {
		// It believes in itself for long.
		c.Lease, c.Heartbeat, c.Election = 3*time.Second, 3*time.Second, 3*time.Second
		if i > 0 {
			c.Lease, c.Heartbeat, c.Election = 200*time.Millisecond, 300*time.Millisecond, 300*time.Millisecond
		}
		w.plug(i, c, d)
	})
	upAll(sites)
	awaitReady(t, sites...)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	must(t, sites[1].node.TransferLeadership(ctx, "n1"))
	eventually(t, 5*time.Second, "n1 leads", func() bool { term, _ := sites[0].node.Leadership(); return term != 0 })
	w.split(0)
	index := propose(t, sites[1].node, "new").Index
	if !sites[0].node.IsLeader() {
		t.Fatal("the old leader gave up too early for this test")
	}
	for range 20 {
		read, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		got, err := sites[0].node.rt.Load().reader.read(read)
		cancel()
		if err == nil && got < index {
			t.Fatalf("the deposed leader answered %d, %d is acknowledged", got, index)
		}
		if err == nil {
			t.Fatal("the deposed leader was confirmed")
		}
	}
}
