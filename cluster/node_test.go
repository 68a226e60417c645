package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestSingleNodeIsReadyInASecond(t *testing.T) {
	t.Parallel()
	s := newSites(t, 1, nil)[0]
	for _, start := range []string{"first", "second"} {
		began := time.Now()
		s.up()
		awaitReady(t, s)
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s start took %s", start, took)
		}
		propose(t, s.node, start)
		id := s.node.State().Identity()
		if id.GetClusterId() == "" || id.GetEpoch() == "" {
			t.Errorf("identity %v", id)
		}
		s.kill()
	}
}

func TestThreeNodes(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 3, nil)
	began := time.Now()
	upAll(sites)
	awaitReady(t, sites...)
	t.Logf("ready after %s", time.Since(began))
	for i, s := range sites {
		r := propose(t, s.node, fmt.Sprintf("t%d", i))
		if r.Index == 0 || !hasTenant(s.node, fmt.Sprintf("t%d", i)) {
			t.Errorf("%s does not read its own write", s.cfg.NodeID)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, s := range sites {
		index, err := s.node.ReadIndex(ctx)
		if err != nil {
			t.Fatal(err)
		}
		st, err := s.node.WaitApplied(ctx, index)
		if err != nil {
			t.Fatal(err)
		}
		for i := range sites {
			if _, ok := st.Tenant(fmt.Sprintf("t%d", i)); !ok {
				t.Errorf("strong read on %s misses t%d", s.cfg.NodeID, i)
			}
		}
	}
	report, err := sites[0].node.Report(ctx)
	if err != nil || len(report.Nodes) != 3 || report.Leader == "" || report.ClusterId == "" {
		t.Fatalf("report %v, %v", report, err)
	}
	for _, n := range report.Nodes {
		if !n.Healthy || !n.Voter || n.Applied == 0 || n.Build != "test" || n.Leader != (n.Id == report.Leader) {
			t.Errorf("node report %v", n)
		}
	}
}

func TestConcurrentWritesShareEntries(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 3, nil)
	upAll(sites)
	awaitReady(t, sites...)
	const writers = 200
	indexes := make([]uint64, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() { indexes[i] = propose(t, sites[i%3].node, fmt.Sprintf("t%d", i)).Index })
	}
	wg.Wait()
	distinct := map[uint64]bool{}
	for _, index := range indexes {
		distinct[index] = true
	}
	if len(distinct) > writers/2 {
		t.Errorf("%d writes at once made %d entries", writers, len(distinct))
	}
	for i := range writers {
		if !hasTenant(sites[i%3].node, fmt.Sprintf("t%d", i)) {
			t.Errorf("t%d is missing", i)
		}
	}
}

// A node of a cluster whose log or vote is gone would come back without a
// memory of what it acknowledged.
func TestMissingStoreIsNoNewStore(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"raft.db", "vote.db"} {
		s := newSites(t, 1, nil)[0]
		s.up()
		awaitReady(t, s)
		s.kill()
		must(t, os.Remove(filepath.Join(s.cfg.DataDir, name)))
		s.deps.Metrics = prometheus.NewRegistry()
		if _, err := New(s.cfg, s.deps); err == nil || !strings.Contains(err.Error(), "move the data directory aside") {
			t.Errorf("without %s: %v", name, err)
		}
		if e, err := Examine(s.cfg.DataDir); err != nil || e.Sound() {
			t.Errorf("without %s it is sound: %v", name, err)
		}
	}
}
