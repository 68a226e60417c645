package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
	"github.com/org/envoy-control-plane/fsm"
)

// With no room under any voter the cluster goes on, but for writes: these are
// refused and in no log. When there is room again nothing is lost.
func TestFullDisksTakeNoWrites(t *testing.T) {
	t.Parallel()
	disks := make([]*disk, 4)
	sites := newSites(t, 4, func(i int, c *Config, d *Deps) {
		onDisks(disks)(i, c, d)
		c.BootstrapExpect, c.Join = 3, c.Join[:3]
		if i == 3 {
			c.BootstrapExpect = 0
		}
	})
	voters := sites[:3]
	upAll(voters)
	awaitReady(t, voters...)
	leader(t, voters)
	for _, d := range disks[:3] {
		d.fill(true)
	}
	var stored, refused []string
	write := func(s *site, name string) error {
		r, err := s.node.Propose(context.Background(), putTenant(name))
		if err == nil {
			err = fsm.ResultError(r)
		}
		switch code := fsm.CodeOf(err); {
		case err == nil:
			stored = append(stored, name)
		case code == fsm.CodeStorageFull:
			refused = append(refused, name)
		case code == fsm.CodeOutcomeUnknown: // a leader was replaced on a busy machine
			return nil
		default:
			t.Fatalf("%s: %v", name, err)
		}
		return err
	}
	eventually(t, 20*time.Second, "writes are refused", func() bool {
		return write(voters[len(stored)%3], fmt.Sprint("first-", len(stored))) != nil
	})

	// Elections, strong reads and the membership go on.
	for i := range 50 {
		old := leader(t, voters)
		next := others(voters, old)[i%2]
		if err := old.node.TransferLeadership(context.Background(), next.cfg.NodeID); err != nil {
			t.Fatalf("election %d: %v", i, err)
		}
		if _, err := old.node.ReadIndex(context.Background()); err != nil {
			t.Fatalf("strong read %d: %v", i, err)
		}
		if i%10 == 0 && write(old, fmt.Sprint("never-", i)) == nil {
			t.Error("a full disk takes a write again")
		}
	}
	sites[3].up()
	awaitReady(t, sites[3])
	must(t, voters[0].node.RemoveNode(context.Background(), sites[3].cfg.NodeID))
	for _, s := range voters {
		if h := s.node.Health(); !h.Ready || !strings.Contains(strings.Join(h.Reasons, ";"), "no room") {
			t.Errorf("%s: %+v", s.cfg.NodeID, h)
		}
		if !s.node.rt.Load().stores.Short() {
			t.Errorf("%s has a reserve", s.cfg.NodeID)
		}
	}

	for _, d := range disks {
		d.fill(false)
	}
	eventually(t, 20*time.Second, "writes go on", func() bool { return write(voters[0], "after") == nil })
	for _, s := range voters {
		eventually(t, 10*time.Second, "all is on "+s.cfg.NodeID, func() bool {
			return !slices.ContainsFunc(stored, func(name string) bool { return !hasTenant(s.node, name) })
		})
		for _, name := range slices.DeleteFunc(slices.Clone(refused), func(name string) bool { return name == "after" }) {
			if hasTenant(s.node, name) {
				t.Errorf("%s has %s, which was refused", s.cfg.NodeID, name)
			}
		}
	}
}

// A leader whose disk alone is full leads no more, and no write fails by it.
func TestLeaderWithAFullDiskHandsOver(t *testing.T) {
	t.Parallel()
	disks := make([]*disk, 3)
	sites := newSites(t, 3, onDisks(disks))
	upAll(sites)
	awaitReady(t, sites...)
	old := leader(t, sites)
	full := disks[at(sites, old)]
	full.fill(true)
	for i := range 20 {
		proposeOnce(t, old.node, fmt.Sprint("t-", i))
	}
	if lead := leader(t, sites); lead == old {
		t.Error("a node leads whose disk is full, while others' have room")
	}
	full.fill(false)
	eventually(t, 10*time.Second, "it is well again", func() bool {
		return len(old.node.Health().Reasons) == 0 && hasTenant(old.node, "t-19")
	})
}

func TestRoomOf(t *testing.T) {
	full, roomy, gone := &clusterpb.NodeInfo{DiskFull: true}, &clusterpb.NodeInfo{Applied: 5}, &clusterpb.NodeInfo{OutOfRaft: true}
	ahead := &clusterpb.NodeInfo{Applied: 6}
	for _, x := range []struct {
		name   string
		voters []*clusterpb.NodeInfo // nil: silent
		full   bool
		heir   string
	}{
		{"all well", []*clusterpb.NodeInfo{roomy, roomy, roomy}, false, "0"},
		{"one full", []*clusterpb.NodeInfo{full, roomy, ahead}, true, "2"},
		{"two full", []*clusterpb.NodeInfo{full, roomy, full}, true, ""},
		{"one full, one silent", []*clusterpb.NodeInfo{roomy, full, nil}, true, ""},
		{"one full, one with a broken disk", []*clusterpb.NodeInfo{roomy, full, gone}, true, ""},
		{"one silent", []*clusterpb.NodeInfo{roomy, roomy, nil}, false, "0"},
		{"alone", []*clusterpb.NodeInfo{full}, true, ""},
		{"two of five full", []*clusterpb.NodeInfo{full, full, roomy, ahead, roomy}, true, "3"},
	} {
		servers := []raft.Server{{ID: "reader", Suffrage: raft.Nonvoter}}
		infos := map[string]*clusterpb.NodeInfo{"reader": full} // does not count
		for i, info := range x.voters {
			id := fmt.Sprint(i)
			servers = append(servers, raft.Server{ID: raft.ServerID(id), Suffrage: raft.Voter})
			if info != nil {
				infos[id] = info
			}
		}
		if full, heir := roomOf(servers, infos); full != x.full || heir != x.heir {
			t.Errorf("%s: full %v, heir %q; want %v, %q", x.name, full, heir, x.full, x.heir)
		}
	}
}
