package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"

	"github.com/org/envoy-control-plane/cluster/store"
	"github.com/org/envoy-control-plane/fsm"
)

// disk is a log store whose writes can be slow, hang or fail.
type disk struct {
	raft.LogStore
	delay atomic.Int64
	fail  atomic.Pointer[error]
	// full: no room, but for what the log's reserve takes once it is given up.
	full, refused atomic.Bool
	mu            sync.Mutex // held while writes hang
}

func (d *disk) StoreLog(l *raft.Log) error { return d.StoreLogs([]*raft.Log{l}) }

func (d *disk) StoreLogs(l []*raft.Log) error {
	time.Sleep(time.Duration(d.delay.Load()))
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fail.Load(); err != nil {
		return *err
	}
	if d.full.Load() && !d.refused.Swap(true) {
		return fmt.Errorf("write raft.db: %w", syscall.ENOSPC)
	}
	return d.LogStore.StoreLogs(l)
}

// fill takes all room of the disk, or gives it back.
func (d *disk) fill(full bool) {
	d.full.Store(full)
	d.refused.Store(false)
}

// free is what the disk's file system would say.
func (d *disk) free(string) (uint64, bool) {
	if d.full.Load() {
		return 0, true
	}
	return 1 << 30, true
}

// onDisks gives every site a disk.
func onDisks(disks []*disk) func(int, *Config, *Deps) {
	return func(i int, _ *Config, d *Deps) {
		disks[i] = &disk{}
		d.free = disks[i].free
		d.slowLog = func(s raft.LogStore) raft.LogStore {
			disks[i].LogStore = s
			return disks[i]
		}
	}
}

func at(sites []*site, s *site) int {
	for i := range sites {
		if sites[i] == s {
			return i
		}
	}
	return -1
}

// Fsyncs that take twice the lease and the election timeout. The timers are
// longer than the defaults, so that a busy machine is not taken for slow disks.
func TestSlowDisksElectNobody(t *testing.T) {
	t.Parallel()
	disks := make([]*disk, 3)
	sites := newSites(t, 3, func(i int, c *Config, d *Deps) {
		onDisks(disks)(i, c, d)
		c.Heartbeat, c.Election, c.Lease = 500*time.Millisecond, 500*time.Millisecond, 450*time.Millisecond
	})
	upAll(sites)
	awaitReady(t, sites...)
	lead := leader(t, sites)
	term := lead.node.Term()
	for _, d := range disks {
		d.delay.Store(int64(time.Second))
	}
	end := time.Now().Add(8 * time.Second)
	var wg sync.WaitGroup
	var written atomic.Int64
	for w := range 4 {
		wg.Go(func() {
			for i := 0; time.Now().Before(end); i++ {
				propose(t, sites[w%3].node, fmt.Sprintf("t%d-%d", w, i))
				written.Add(1)
			}
		})
	}
	wg.Wait()
	for _, s := range sites {
		if now := s.node.Term(); now != term {
			t.Errorf("%s is in term %d, it was %d", s.cfg.NodeID, now, term)
		}
	}
	if !lead.node.IsLeader() {
		t.Error("the leader changed")
	}
	t.Logf("%d writes", written.Load())
	for _, d := range disks {
		d.delay.Store(0)
	}
}

func TestLeaderWithAHangingDiskIsReplaced(t *testing.T) {
	t.Parallel()
	disks := make([]*disk, 3)
	sites := newSites(t, 3, func(i int, c *Config, d *Deps) {
		onDisks(disks)(i, c, d)
		c.StoreQuiet, c.StoreFatal = 500*time.Millisecond, 5*time.Second
	})
	upAll(sites)
	awaitReady(t, sites...)
	old := leader(t, sites)
	hung := disks[at(sites, old)]
	hung.mu.Lock()
	began := time.Now()
	// A write gets it to hang; nobody acknowledges that one.
	lost := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := old.node.Propose(ctx, putTenant("lost"))
		lost <- err
	}()
	rest := others(sites, old)
	eventually(t, 5*time.Second, "another leader", func() bool {
		for _, s := range rest {
			if term, _ := s.node.Leadership(); term != 0 {
				return true
			}
		}
		return false
	})
	propose(t, rest[0].node, "after")
	t.Logf("written %s after the disk hung", time.Since(began))
	if err := <-lost; fsm.CodeOf(err) != fsm.CodeOutcomeUnknown {
		t.Errorf("the write that hung: %v", err)
	}
	if reasons := old.node.Health().Reasons; len(reasons) == 0 || !strings.Contains(strings.Join(reasons, ";"), "hanging") {
		t.Errorf("health %v", reasons)
	}
	hung.mu.Unlock()
	eventually(t, 5*time.Second, "it follows again", func() bool { return hasTenant(old.node, "after") && !old.node.IsLeader() })
}

func TestDiskThatHangsForGoodEndsTheNode(t *testing.T) {
	t.Parallel()
	disks := make([]*disk, 3)
	sites := newSites(t, 3, func(i int, c *Config, d *Deps) {
		onDisks(disks)(i, c, d)
		c.StoreQuiet, c.StoreFatal = 300*time.Millisecond, time.Second
	})
	upAll(sites)
	awaitReady(t, sites...)
	old := leader(t, sites)
	hung := disks[at(sites, old)]
	hung.mu.Lock()
	t.Cleanup(hung.mu.Unlock)
	go func() { _, _ = old.node.Propose(context.Background(), putTenant("lost")) }()
	select {
	case err := <-old.done:
		if err == nil || !strings.Contains(err.Error(), "hanging") {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Run did not return")
	}
	old.node = nil
}

func TestFailedDiskMakesTheNodeLeaveRaft(t *testing.T) {
	t.Parallel()
	disks := make([]*disk, 3)
	sites := newSites(t, 3, onDisks(disks))
	upAll(sites)
	awaitReady(t, sites...)
	old := leader(t, sites)
	propose(t, old.node, "before")
	eio := error(syscall.EIO)
	disks[at(sites, old)].fail.Store(&eio)
	_, err := old.node.Propose(context.Background(), putTenant("lost"))
	if err == nil {
		t.Error("a write was acknowledged by a broken disk")
	}
	rest := others(sites, old)
	propose(t, rest[0].node, "after")
	eventually(t, 3*time.Second, "it says so", func() bool {
		return strings.Contains(strings.Join(old.node.Health().Reasons, ";"), "left Raft")
	})
	if !hasTenant(old.node, "before") || !old.node.Ready() {
		t.Error("it does not serve what it has in memory")
	}
	select {
	case err := <-old.done:
		t.Errorf("Run returned: %v", err)
		old.node = nil
	case <-time.After(time.Second):
	}
}

func TestDamagedLogStopsTheNode(t *testing.T) {
	t.Parallel()
	s := newSites(t, 1, nil)[0]
	s.up()
	awaitReady(t, s)
	index := propose(t, s.node, "soon-damaged").Index
	s.kill()
	db, err := bbolt.Open(s.cfg.DataDir+"/raft.db", 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bbolt.Tx) error {
		logs := tx.Bucket([]byte("logs"))
		return logs.ForEach(func(k, v []byte) error {
			if !strings.Contains(string(v), "soon-damaged") {
				return nil
			}
			return logs.Put(k, []byte(strings.ReplaceAll(string(v), "soon-damaged", "soon-dambged")))
		})
	}))
	must(t, db.Close())
	n, err := New(s.cfg, Deps{Log: s.deps.Log})
	must(t, err)
	err = n.Run(context.Background())
	var damage *store.DamagedError
	if !errors.As(err, &damage) || damage.Index != index {
		t.Errorf("Run: %v", err)
	}
}

// A write that the leader has no room for is certainly not applied: another
// node takes over and has it, or the writer is told. When no node has room all
// live, and go on when there is some again.
func TestFullDisks(t *testing.T) {
	t.Parallel()
	disks := make([]*disk, 3)
	sites := newSites(t, 3, func(i int, c *Config, d *Deps) {
		onDisks(disks)(i, c, d)
		c.Failover = 2 * time.Second
	})
	upAll(sites)
	awaitReady(t, sites...)
	full := fmt.Errorf("write raft.db: %w", syscall.ENOSPC)
	write := func(n *Node, name string) error {
		r, err := n.Propose(context.Background(), putTenant(name))
		if err == nil {
			err = fsm.ResultError(r)
		}
		return err
	}
	lead := leader(t, sites)
	disks[at(sites, lead)].fail.Store(&full)
	eventually(t, 20*time.Second, "a node with room takes over", func() bool {
		err := write(lead.node, "over")
		if code := fsm.CodeOf(err); err != nil && code != fsm.CodeStorageFull && code != fsm.CodeNoLeader {
			t.Fatalf("on the full leader: %v", err)
		}
		return err == nil
	})

	for _, d := range disks {
		d.fail.Store(&full)
	}
	refused := 0
	for deadline := time.Now().Add(4 * time.Second); time.Now().Before(deadline); {
		err := write(sites[refused%3].node, "never")
		if code := fsm.CodeOf(err); code != fsm.CodeStorageFull && code != fsm.CodeNoLeader {
			t.Fatalf("with no room anywhere: %v", err)
		}
		refused++
	}
	eventually(t, 20*time.Second, "a node says why", func() bool {
		for _, s := range sites {
			for _, reason := range s.node.Health().Reasons {
				if strings.Contains(reason, "no room") {
					return true
				}
			}
		}
		return false
	})
	for _, s := range sites {
		if hasTenant(s.node, "never") || !s.node.Ready() {
			t.Errorf("%s: never %v, ready %v", s.cfg.NodeID, hasTenant(s.node, "never"), s.node.Ready())
		}
	}
	for _, d := range disks {
		d.fail.Store(nil)
	}
	eventually(t, 20*time.Second, "writes go on", func() bool { return write(sites[0].node, "after") == nil })
	for _, s := range sites {
		eventually(t, 10*time.Second, "all has come to "+s.cfg.NodeID, func() bool { return hasTenant(s.node, "over") && hasTenant(s.node, "after") })
	}
}
