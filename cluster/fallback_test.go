package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/cluster/store"
)

// snapshotted is a stopped node with two snapshots and entries behind them, of
// which the newest snapshot is damaged. Trailing entries stay in its log.
func snapshotted(t *testing.T, trailing uint64, file string) (s *site, seen *recorder, last uint64) {
	t.Helper()
	seen = &recorder{}
	s = newSites(t, 1, func(_ int, c *Config, d *Deps) {
		c.SnapshotInterval, c.SnapshotThreshold, c.TrailingLogs = time.Hour, 1<<40, trailing
		d.Observers = []Observer{seen}
	})[0]
	n := s.up()
	awaitReady(t, s)
	for i := range 40 {
		last = propose(t, n, fmt.Sprintf("t%d", i)).Index
		if i == 15 || i == 30 {
			must(t, n.rt.Load().raft.Snapshot().Error())
		}
	}
	s.kill()
	seen.forget()
	all, err := filepath.Glob(filepath.Join(s.cfg.DataDir, "snapshots", "*", file))
	must(t, err)
	if len(all) != 2 {
		t.Fatalf("%d snapshots", len(all))
	}
	newest := all[0]
	for _, path := range all { // by time, the last part of the name
		if filepath.Dir(path) > filepath.Dir(newest) {
			newest = path
		}
	}
	body, err := os.ReadFile(newest)
	must(t, err)
	body[len(body)/2] ^= 1
	must(t, os.WriteFile(newest, body, 0o600))
	return s, seen, last
}

// A node whose newest snapshot is damaged goes on from the one before when its
// log has all that lies between.
func TestDamagedSnapshotIsMadeUpForByTheLog(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"state.bin", "meta.json"} {
		s, _, last := snapshotted(t, 1000, file)
		e, err := Examine(s.cfg.DataDir)
		must(t, err)
		if len(e.Damage) != 1 || !e.Sound() || e.State.Index() != last {
			t.Errorf("%s: examined: %+v, index %d", file, e.Damage, e.State.Index())
		}
		n := s.up()
		awaitReady(t, s)
		if n.State().Index() < last || !hasTenant(n, "t0") || !hasTenant(n, "t39") {
			t.Errorf("%s: the state of %d, not %d", file, n.State().Index(), last)
		}
		propose(t, n, "after")
		must(t, n.rt.Load().raft.Snapshot().Error())
		s.kill()
		if e, err := Examine(s.cfg.DataDir); err != nil || len(e.Snapshots) != 2 || len(e.Damage) > 0 {
			t.Errorf("%s: after the next snapshot: %+v, %v", file, e.Snapshots, err)
		}
	}
}

// It stops when the log does not reach back so far: the state before is never
// served.
func TestDamagedSnapshotStopsTheNode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file  string
		clear bool // the log too, as after an installed snapshot
	}{{"state.bin", false}, {"state.bin", true}, {"meta.json", false}, {"meta.json", true}} {
		s, seen, _ := snapshotted(t, 2, c.file)
		if c.clear {
			stores, err := store.Open(s.cfg.DataDir, store.Options{Damaged: func(error) {}, Log: newRaftLog(logger(t, "n1"))})
			must(t, err)
			first, err := stores.Log.FirstIndex()
			must(t, err)
			last, err := stores.Log.LastIndex()
			must(t, errors.Join(err, stores.Log.DeleteRange(first, last), stores.Close()))
		}
		n := s.up()
		select {
		case err := <-s.done:
			var damage *store.DamagedSnapshotError
			if !errors.As(err, &damage) || damage.Index == 0 {
				t.Errorf("%+v: Run returned %v", c, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%+v: it runs", c)
		}
		s.node = nil
		if events, resets := seen.seen(); n.State().Index() != 0 || len(events) > 0 || resets > 0 {
			t.Errorf("%+v: it has published the state of %d", c, n.State().Index())
		}
		if e, err := Examine(s.cfg.DataDir); err != nil || e.Sound() || e.State != nil {
			t.Errorf("%+v: examined: %+v, %v", c, e.Damage, err)
		}
	}
}
