package cluster

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// backup returns the bytes of a node's state.
func backup(t *testing.T, n *Node) []byte {
	t.Helper()
	var b bytes.Buffer
	must(t, n.State().WriteSnapshot(&b))
	return b.Bytes()
}

// restore stages a backup on a node and restores it.
func restore(t *testing.T, n *Node, b []byte) error {
	t.Helper()
	sum, _, err := n.StageBackup(bytes.NewReader(b))
	must(t, err)
	if err := n.SpreadBackup(context.Background(), sum); err != nil {
		return err
	}
	r, err := n.Propose(context.Background(), &fsmpb.Command{By: "test", Op: &fsmpb.Command_RestoreState{
		RestoreState: &fsmpb.RestoreState{Sha256: sum[:], Epoch: randomID(8)},
	}})
	if err == nil {
		err = fsm.ResultError(r)
	}
	return err
}

// sameState waits until all nodes have the same state, and returns its epoch.
func sameState(t *testing.T, sites []*site) string {
	t.Helper()
	eventually(t, 20*time.Second, "equal states", func() bool {
		first := sites[0].node.State()
		want, err := first.Hash()
		must(t, err)
		for _, s := range sites[1:] {
			if got, err := s.node.State().Hash(); err != nil || got != want {
				return false
			}
		}
		return true
	})
	return sites[0].node.State().Identity().GetEpoch()
}

// A restore by way of a follower switches the state of all nodes, of those too
// that were down, that start anew, or that join later.
func TestRestore(t *testing.T) {
	t.Parallel()
	observed := &recorder{}
	sites := newSites(t, 4, func(i int, c *Config, d *Deps) {
		c.BootstrapExpect = 3
		if i == 0 {
			d.Observers = []Observer{observed}
		}
		if i == 3 {
			c.BootstrapExpect, c.NonVoter = 0, true
		}
	})
	members, late := sites[:3], sites[3]
	// The fourth is not there yet, and its address is not waited for.
	for i, s := range members {
		s.cfg.Join = nil
		for j, o := range members {
			if i != j {
				s.cfg.Join = append(s.cfg.Join, fmt.Sprintf("127.0.0.1:%d", o.cfg.GossipPort))
			}
		}
	}
	upAll(members)
	awaitReady(t, members...)
	propose(t, sites[0].node, "kept")
	old := backup(t, sites[0].node)
	epoch := sites[0].node.State().Identity().GetEpoch()
	propose(t, sites[1].node, "undone")

	lead := leader(t, members)
	rest := others(members, lead)
	by, down := rest[0], rest[1]
	down.kill()
	_, resets := observed.seen()
	must(t, restore(t, by.node, old))
	down.up()
	awaitReady(t, down)
	late.cfg.Join = by.cfg.Join
	late.up()
	awaitReady(t, late)
	if now := sameState(t, sites); now == epoch {
		t.Error("no new epoch")
	}
	if _, now := observed.seen(); sites[0] != down && now == resets {
		t.Error("the observer was not told that everything may have changed")
	}
	propose(t, late.node, "after")
	for _, s := range sites {
		s.kill()
	}
	upAll(sites) // from their logs
	awaitReady(t, sites...)
	sameState(t, sites)
	for _, s := range sites {
		if n := s.node; !hasTenant(n, "kept") || hasTenant(n, "undone") || !hasTenant(n, "after") {
			t.Errorf("%s: kept %v, undone %v, after %v", s.cfg.NodeID, hasTenant(n, "kept"), hasTenant(n, "undone"), hasTenant(n, "after"))
		}
	}
}

// Without a majority that has the backup nothing is restored.
func TestRestoreNeedsAMajorityWithTheBackup(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 3, nil)
	upAll(sites)
	awaitReady(t, sites...)
	propose(t, sites[0].node, "kept")
	old := backup(t, sites[0].node)
	lead := leader(t, sites)
	for _, s := range others(sites, lead) {
		s.kill()
	}
	if err := restore(t, lead.node, old); fsm.CodeOf(err) != fsm.CodeUnavailable {
		t.Errorf("%v", err)
	}
	if err := lead.node.SpreadBackup(context.Background(), [32]byte{1}); fsm.CodeOf(err) != fsm.CodeUnavailable {
		t.Errorf("one that nobody has: %v", err)
	}
	if _, _, err := lead.node.StageBackup(bytes.NewReader(old[:len(old)-1])); err == nil {
		t.Error("half a backup was taken")
	}
	if _, _, err := lead.node.StageBackup(bytes.NewReader(append(bytes.Clone(old), make([]byte, 1<<20)...))); err == nil {
		t.Error("more than a backup was taken")
	}
}

// However the leader fails during a restore, all nodes have the old state
// afterwards or all have the new one.
func TestRestoreIsAllOrNothing(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 3, nil)
	upAll(sites)
	awaitReady(t, sites...)
	propose(t, sites[0].node, "kept")
	old := backup(t, sites[0].node)
	seen := map[bool]int{}
	for round := range 6 {
		name := fmt.Sprintf("undone-%d", round)
		propose(t, sites[0].node, name)
		lead := leader(t, sites)
		epoch := lead.node.State().Identity().GetEpoch()
		by := sites[round%3]
		done := make(chan error, 1)
		go func(n *Node) { done <- restore(t, n, old) }(by.node)
		time.Sleep(rand.N(30 * time.Millisecond))
		lead.kill()
		err := <-done
		lead.up()
		awaitReady(t, sites...)
		switched := sameState(t, sites) != epoch
		if err == nil && !switched {
			t.Errorf("round %d: a restore that was acknowledged is lost", round)
		}
		if c := fsm.CodeOf(err); switched && (c == fsm.CodeUnavailable || c == fsm.CodeNoLeader) {
			t.Errorf("round %d: applied, after it was said not to be: %v", round, err)
		}
		for _, s := range sites {
			if hasTenant(s.node, name) == switched || !hasTenant(s.node, "kept") {
				t.Errorf("round %d: %s has something of both", round, s.cfg.NodeID)
			}
		}
		seen[switched]++
	}
	t.Logf("switched %d times, not %d times", seen[true], seen[false])
}

// A new cluster goes on from another one's backup, which one of its members
// is started with.
func TestSeededCluster(t *testing.T) {
	t.Parallel()
	blue := newSites(t, 1, nil)
	upAll(blue)
	awaitReady(t, blue...)
	propose(t, blue[0].node, "kept")
	file := filepath.Join(t.TempDir(), "backup")
	must(t, os.WriteFile(file, backup(t, blue[0].node), 0o600))
	from := blue[0].node.State()

	green := newSites(t, 3, func(i int, c *Config, _ *Deps) {
		if i == 2 {
			c.Restore, c.FromCluster = file, from.Identity().GetClusterId()
		}
	})
	wrong := newSites(t, 1, func(_ int, c *Config, _ *Deps) { c.Restore, c.FromCluster = file, "another" })[0]
	if _, err := New(wrong.cfg, wrong.deps); err == nil || !strings.Contains(err.Error(), from.Identity().GetClusterId()) {
		t.Errorf("the backup of another cluster: %v", err)
	}
	upAll(green)
	awaitReady(t, green...)
	for _, s := range green {
		if !hasTenant(s.node, "kept") {
			t.Fatalf("%s is ready without what the backup has", s.cfg.NodeID)
		}
	}
	id := green[0].node.State().Identity()
	if id.ClusterId == from.Identity().GetClusterId() || id.ParentClusterId != from.Identity().GetClusterId() ||
		id.ParentEpoch != from.Identity().GetEpoch() || id.ParentSeq != from.Seq() {
		t.Errorf("identity %v, from %v", id, from.Identity())
	}
	propose(t, green[1].node, "after")
	must(t, os.Remove(file))
	for _, s := range green { // the flag stays, the file need not
		s.kill()
	}
	upAll(green)
	awaitReady(t, green...)
	sameState(t, green)
	if !hasTenant(green[2].node, "after") {
		t.Error("seeded again")
	}
}
