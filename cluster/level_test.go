package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// A cluster with an older binary is founded at that one's level, refuses to be
// finalised by name of it, and takes no such binary any more once it is.
func TestFinalize(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 4, func(i int, c *Config, d *Deps) {
		c.BootstrapExpect = 3
		if i == 3 {
			c.BootstrapExpect = 0
		}
		if i == 1 || i == 3 {
			d.supports = fsm.BaseLevel
		}
	})
	for i, s := range sites { // the fourth is not there yet
		s.cfg.Join = sites[(i+1)%3].cfg.Join[:3]
	}
	upAll(sites[:3])
	awaitReady(t, sites[:3]...)
	for _, s := range sites[:3] {
		if level := s.node.State().FeatureLevel(); level != fsm.BaseLevel {
			t.Fatalf("%s is at level %d", s.cfg.NodeID, level)
		}
	}
	_, err := sites[0].node.Finalize(t.Context(), "ann")
	if fsm.CodeOf(err) != fsm.CodeLevelUnsupported || !strings.Contains(err.Error(), "n2 supports 1") {
		t.Fatalf("got %v", err)
	}
	sites[1].kill()
	_, err = sites[0].node.Finalize(t.Context(), "ann")
	if fsm.CodeOf(err) != fsm.CodeLevelUnsupported && fsm.CodeOf(err) != fsm.CodeOutcomeUnknown {
		t.Fatalf("got %v", err)
	}
	sites[1].deps.supports = 0
	sites[1].up()
	awaitReady(t, sites[1])
	follower := others(sites[:3], leader(t, sites[:3]))[0]
	r, err := follower.node.Finalize(t.Context(), "ann")
	must(t, err)
	must(t, fsm.ResultError(r))
	for _, s := range sites[:3] {
		eventually(t, 10*time.Second, "the level and its snapshot", func() bool {
			newest, err := s.node.rt.Load().stores.NewestSnapshot()
			return err == nil && s.node.State().FeatureLevel() == fsm.SupportedLevel && newest >= r.Index
		})
	}
	again, err := follower.node.Finalize(t.Context(), "ann")
	if err != nil || !again.Unchanged || again.Index != r.Index {
		t.Errorf("again: %v, %v", again, err)
	}
	sites[3].up()
	eventually(t, 15*time.Second, "the older binary is refused", func() bool {
		return strings.Contains(strings.Join(sites[3].node.Health().Reasons, " "), "the node's binary supports 1")
	})
}

// All servers support it for long enough: nobody has to finalise.
func TestFinalizeInTime(t *testing.T) {
	t.Parallel()
	s := newSites(t, 1, func(_ int, c *Config, d *Deps) {
		c.Membership, d.supports = 20*time.Millisecond, fsm.BaseLevel
	})[0]
	n := s.up()
	awaitReady(t, s)
	if level := n.State().FeatureLevel(); level != fsm.BaseLevel {
		t.Errorf("founded at level %d", level)
	}
	s.kill()
	s.cfg.FinalizeAfter, s.deps.supports = 100*time.Millisecond, 0
	n = s.up()
	eventually(t, 10*time.Second, "the highest level", func() bool { return n.State().FeatureLevel() == fsm.SupportedLevel })
}

// A level that the binary does not know stops the node at its entry, and at
// every start.
func TestNewerLevelStopsTheNode(t *testing.T) {
	t.Parallel()
	s := newSites(t, 1, nil)[0]
	n := s.up()
	awaitReady(t, s)
	body, err := proto.Marshal(&fsmpb.Entry{Commands: []*fsmpb.Command{
		{Op: &fsmpb.Command_RaiseLevel{RaiseLevel: &fsmpb.RaiseLevel{Level: fsm.SupportedLevel + 1}}}, putTenant("behind"),
	}})
	must(t, err)
	n.rt.Load().raft.Apply(body, time.Second)
	stops := func() {
		t.Helper()
		select {
		case err := <-s.done:
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("the log needs a newer binary: feature level %d", fsm.SupportedLevel+1)) {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("it goes on")
		}
		if hasTenant(s.node, "behind") {
			t.Error("it applied the entry")
		}
		s.node = nil
	}
	stops()
	s.up()
	stops()
}
