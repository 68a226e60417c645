package cluster

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
)

// clusterIDs returns the distinct clusters that nodes have made or joined.
func clusterIDs(sites []*site) []string {
	var ids []string
	for _, s := range sites {
		if s.node == nil {
			continue
		}
		if id := s.node.ident.ClusterID(); id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

func neverCluster(t *testing.T, sites []*site, during time.Duration) {
	t.Helper()
	for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ids := clusterIDs(sites); len(ids) > 0 {
			t.Fatalf("a cluster was made: %v", ids)
		}
	}
}

func servers(n *Node) map[string]raft.ServerSuffrage {
	out := map[string]raft.ServerSuffrage{}
	if rt := n.rt.Load(); rt != nil {
		for _, s := range rt.servers() {
			out[string(s.ID)] = s.Suffrage
		}
	}
	return out
}

func voters(n *Node) []string {
	var out []string
	for id, s := range servers(n) {
		if s == raft.Voter {
			out = append(out, nodeOf(id))
		}
	}
	slices.Sort(out)
	return out
}

func TestSixNodesInTwoHalvesMakeOneCluster(t *testing.T) {
	t.Parallel()
	w := newNetwork()
	sites := newSites(t, 6, func(i int, c *Config, d *Deps) {
		c.BootstrapExpect = 3
		w.plug(i, c, d)
	})
	w.split(0, 1, 2)
	upAll(sites)
	neverCluster(t, sites, 2*time.Second)
	w.heal()
	awaitReady(t, sites...)
	if ids := clusterIDs(sites); len(ids) != 1 {
		t.Fatalf("clusters %v", ids)
	}
	eventually(t, 10*time.Second, "five voters of six", func() bool { return len(voters(leader(t, sites).node)) == 5 })
}

// A split in the middle of the start, at many moments: never two clusters.
func TestSplitDuringTheStart(t *testing.T) {
	t.Parallel()
	for i := range 6 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			w := newNetwork()
			sites := newSites(t, 5, func(i int, c *Config, d *Deps) {
				c.BootstrapExpect = 3
				w.plug(i, c, d)
			})
			upAll(sites)
			time.Sleep(time.Duration(i*60) * time.Millisecond)
			w.split(0, 1)
			time.Sleep(300 * time.Millisecond)
			if ids := clusterIDs(sites); len(ids) > 1 {
				t.Fatalf("clusters %v", ids)
			}
			w.heal()
			awaitReady(t, sites...)
			if ids := clusterIDs(sites); len(ids) != 1 {
				t.Fatalf("clusters %v", ids)
			}
		})
	}
}

func TestInitialMembersWaitForEachOther(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 4, func(_ int, c *Config, _ *Deps) {
		c.BootstrapExpect = 3
		c.InitialMembers = []string{"n1", "n2", "n3"}
	})
	// The fourth is there, but it is no initial member.
	for _, s := range []*site{sites[0], sites[1], sites[3]} {
		s.up()
	}
	neverCluster(t, sites, time.Second)
	eventually(t, 3*time.Second, "it says for whom it waits", func() bool {
		h := sites[0].node.Health()
		return !h.Ready && len(h.Reasons) > 0 && h.Reasons[0] == "the first start waits for answers from n3"
	})
	sites[2].up()
	awaitReady(t, sites...)
	got := voters(sites[3].node)
	if !slices.Equal(got, []string{"n1", "n2", "n3"}) {
		t.Errorf("voters %v", got)
	}
	if s := servers(leader(t, sites).node); len(s) != 4 {
		t.Errorf("servers %v", s)
	}
}

func TestThreeOfFiveDisksLost(t *testing.T) {
	t.Parallel()
	for name, members := range map[string][]string{"initial members": {"n1", "n2", "n3", "n4", "n5"}, "any nodes": nil} {
		t.Run(name, func(t *testing.T) {
			sites := newSites(t, 5, func(_ int, c *Config, _ *Deps) { c.InitialMembers = members })
			upAll(sites)
			awaitReady(t, sites...)
			propose(t, sites[0].node, "precious")
			before := sites[0].node.ident.ClusterID()
			for _, s := range sites {
				s.kill()
			}
			for _, s := range sites[2:] {
				s.wipe()
				s.up()
			}
			neverCluster(t, sites, time.Second) // three of the five initial members
			sites[0].up()
			sites[1].up()
			time.Sleep(2 * time.Second)
			for _, s := range sites {
				if s.node.Ready() {
					t.Errorf("%s is ready without a majority", s.cfg.NodeID)
				}
				if id := s.node.ident.ClusterID(); id != "" && id != before {
					t.Errorf("%s is in a new cluster %s", s.cfg.NodeID, id)
				}
			}
			if len(voters(sites[0].node)) != 5 {
				t.Errorf("voters %v", voters(sites[0].node))
			}
		})
	}
}

func TestWipedNodeComesBackAsNonVoterFirst(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 3, nil)
	upAll(sites)
	awaitReady(t, sites...)
	propose(t, sites[0].node, "before")
	victim := others(sites, leader(t, sites))[0]
	old := victim.node.ident.ServerID()
	victim.kill()
	victim.wipe()
	lead := leader(t, sites)
	seen := make(chan map[string]raft.ServerSuffrage, 10000)
	stop := make(chan struct{})
	go func() {
		defer close(seen)
		for {
			select {
			case <-stop:
				return
			case seen <- servers(lead.node):
				time.Sleep(time.Millisecond)
			}
		}
	}()
	victim.up()
	fresh := victim.node.ident.ServerID()
	awaitReady(t, victim)
	eventually(t, 10*time.Second, "the old incarnation is gone", func() bool {
		s := servers(lead.node)
		_, there := s[old]
		return !there && s[fresh] == raft.Voter && len(s) == 3
	})
	close(stop)
	nonVoter := false
	for s := range seen {
		suffrage, added := s[fresh]
		_, oldThere := s[old]
		nonVoter = nonVoter || (added && suffrage == raft.Nonvoter)
		if !oldThere && suffrage != raft.Voter {
			t.Fatalf("the old incarnation went before the new one was a voter: %v", s)
		}
		if added && suffrage == raft.Voter && !nonVoter {
			t.Fatal("added as a voter at once")
		}
	}
	if !hasTenant(victim.node, "before") {
		t.Error("the wiped node did not catch up")
	}
	// Its past cannot be reached under the new incarnation.
	if refusal := victim.node.Admit(&clusterpb.Hello{Kind: clusterpb.Hello_RAFT, ClusterId: lead.node.ident.ClusterID(), Target: old}); refusal == "" {
		t.Error("the node answers for the disk that it lost")
	}
}

func TestJoinOnlyNeverBootstraps(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 3, func(_ int, c *Config, _ *Deps) { c.BootstrapExpect = 0 })
	upAll(sites)
	neverCluster(t, sites, 1500*time.Millisecond)
}

func TestJoinByName(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 6, func(i int, c *Config, _ *Deps) {
		if c.BootstrapExpect = 0; i < 3 {
			c.BootstrapExpect, c.Join = 3, c.Join[:3]
		}
		c.NonVoter = i == 3
	})
	upAll(sites[:3])
	awaitReady(t, sites[:3]...)
	sites[3].up()
	sites[4].up()
	awaitReady(t, sites[:5]...)
	if got := voters(sites[0].node); len(got) != 3 {
		t.Errorf("voters %v", got)
	}
	if got := len(servers(sites[0].node)); got != 5 {
		t.Errorf("%d servers", got)
	}
	// A fourth voter would help nobody; with the sixth node there are five.
	sites[5].up()
	awaitReady(t, sites[5])
	eventually(t, 10*time.Second, "five voters", func() bool {
		return slices.Equal(voters(sites[0].node), []string{"n1", "n2", "n3", "n5", "n6"})
	})
	propose(t, sites[3].node, "by-the-non-voter")
}

func TestSingleNodeGrowsToThree(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 3, func(i int, c *Config, _ *Deps) {
		if c.BootstrapExpect = 0; i == 0 {
			c.BootstrapExpect, c.Join = 1, nil
		}
	})
	sites[0].up()
	awaitReady(t, sites[0])
	propose(t, sites[0].node, "alone")
	sites[1].up()
	awaitReady(t, sites[1])
	if got := voters(sites[0].node); len(got) != 1 {
		t.Errorf("two nodes: voters %v", got)
	}
	sites[2].up()
	awaitReady(t, sites[2])
	eventually(t, 10*time.Second, "three voters", func() bool { return len(voters(sites[0].node)) == 3 })
	if !hasTenant(sites[2].node, "alone") {
		t.Error("the third node misses what was there before")
	}
}

// A coordinator that crashed between the promises and the decision, or right
// behind the decision, takes its own bootstrap up again.
func TestCoordinatorResumes(t *testing.T) {
	t.Parallel()
	for _, decided := range []bool{false, true} {
		t.Run(fmt.Sprintf("decided=%v", decided), func(t *testing.T) {
			sites := newSites(t, 3, nil)
			for _, s := range sites {
				n, err := New(s.cfg, s.deps)
				if err != nil {
					t.Fatal(err)
				}
				s.node = n // for its identity only
			}
			p := &clusterpb.Promise{ClusterId: "feed", Coordinator: sites[0].node.ident.ServerID()}
			for _, s := range sites {
				p.Members = append(p.Members, s.node.seed())
			}
			for i, s := range sites {
				must(t, s.node.ident.update(func(id *clusterpb.Identity) error {
					id.Promise = p
					if decided && i == 0 {
						id.ClusterId = p.ClusterId
					}
					return nil
				}))
				s.node = nil
			}
			upAll(sites)
			awaitReady(t, sites...)
			for _, s := range sites {
				if id := s.node.State().Identity().GetClusterId(); id != "feed" {
					t.Errorf("%s is in cluster %s", s.cfg.NodeID, id)
				}
				eventually(t, time.Second, "the promise is done with", func() bool { return s.node.ident.get().Promise == nil })
			}
		})
	}
}

// A member that promised a bootstrap which its coordinator then gave up.
func TestPromiseOfAGivenUpBootstrapIsDropped(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 3, nil)
	n, err := New(sites[2].cfg, sites[2].deps)
	must(t, err)
	lost, err := New(sites[0].cfg, sites[0].deps)
	must(t, err)
	p := &clusterpb.Promise{ClusterId: "dead", Coordinator: lost.ident.ServerID(), Members: []*clusterpb.Seed{lost.seed(), n.seed()}}
	must(t, n.ident.update(func(id *clusterpb.Identity) error {
		id.Promise = p
		return nil
	}))
	upAll(sites)
	awaitReady(t, sites...)
	if ids := clusterIDs(sites); len(ids) != 1 || ids[0] == "dead" {
		t.Errorf("clusters %v", ids)
	}
}

func TestPromiseIsGivenOnce(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 3, nil)
	n := sites[0].up()
	eventually(t, 5*time.Second, "running", func() bool { return n.rt.Load() != nil })
	a := &clusterpb.Promise{ClusterId: "a", Coordinator: "n2/x", Members: []*clusterpb.Seed{
		n.seed(), {ServerId: "n2/x", Address: "127.0.0.1:1"}, {ServerId: "n3/x", Address: "127.0.0.1:1"},
	}}
	if refusal := n.promise(a); refusal != "" {
		t.Fatal(refusal)
	}
	if refusal := n.promise(a); refusal != "" {
		t.Errorf("the same promise again: %s", refusal)
	}
	b := &clusterpb.Promise{ClusterId: "b", Coordinator: "n2/x", Members: a.Members}
	if n.promise(b) == "" {
		t.Error("promised twice")
	}
	stranger := &clusterpb.Promise{ClusterId: "c", Coordinator: "n2/x", Members: a.Members[1:]}
	if n.promise(stranger) == "" {
		t.Error("promised for others")
	}
	// The promise holds over a restart, and its unreachable coordinator is
	// waited for.
	sites[0].kill()
	n = sites[0].up()
	eventually(t, 5*time.Second, "running", func() bool { return n.rt.Load() != nil })
	if n.promise(b) == "" {
		t.Error("promised twice over a restart")
	}
	neverCluster(t, sites[:1], 500*time.Millisecond)
}

func TestDecidedAgainst(t *testing.T) {
	p := &clusterpb.Promise{ClusterId: "x", Coordinator: "a/1", Members: []*clusterpb.Seed{{ServerId: "a/1"}, {ServerId: "b/1"}, {ServerId: "c/1"}}}
	holds := func(id string) *clusterpb.NodeInfo { return &clusterpb.NodeInfo{ServerId: id, Promise: p} }
	empty := func(id string) *clusterpb.NodeInfo { return &clusterpb.NodeInfo{ServerId: id} }
	in := func(id, cluster string) *clusterpb.NodeInfo {
		return &clusterpb.NodeInfo{ServerId: id, ClusterId: cluster}
	}
	type infos = map[string]*clusterpb.NodeInfo
	for name, c := range map[string]struct {
		infos infos
		want  bool
	}{
		"nobody answers":                         {infos{}, false},
		"the coordinator holds it":               {infos{"a/1": holds("a/1")}, false},
		"the coordinator decided":                {infos{"a/1": in("a/1", "x")}, false},
		"the coordinator gave it up":             {infos{"a/1": empty("a/1")}, true},
		"the coordinator is elsewhere":           {infos{"a/1": in("a/1", "y")}, true},
		"only another member answers":            {infos{"c/1": empty("c/1")}, false},
		"the coordinator's disk is gone":         {infos{"a/1": empty("a/2"), "c/1": holds("c/1")}, true},
		"its disk is gone, another is silent":    {infos{"a/1": empty("a/2")}, false},
		"its disk is gone, another has begun it": {infos{"a/1": empty("a/2"), "c/1": in("c/1", "x")}, false},
		"another node has its address":           {infos{"a/1": empty("z/1"), "c/1": holds("c/1")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := decidedAgainst(p, c.infos, 2); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestNodesOfAnotherClusterAreRefused(t *testing.T) {
	t.Parallel()
	one := newSites(t, 1, nil)[0]
	two := newSites(t, 1, func(_ int, c *Config, _ *Deps) { c.NodeID = "m1" })[0]
	upAll([]*site{one, two})
	awaitReady(t, one, two)
	for _, kind := range []clusterpb.Hello_Kind{clusterpb.Hello_RAFT, clusterpb.Hello_RPC} {
		h := &clusterpb.Hello{Kind: kind, ClusterId: two.node.ident.ClusterID(), Source: two.node.ident.ServerID(), Target: one.node.ident.ServerID()}
		if one.node.Admit(h) == "" {
			t.Errorf("%v from another cluster is admitted", kind)
		}
	}
	// The node itself may close the connection meanwhile: one is no member.
	eventually(t, 10*time.Second, "a probe tells whose it is", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		info, err := probe(ctx, two.node.rt.Load().peers, "@"+one.node.cfg.address())
		return err == nil && info.ClusterId == one.node.ident.ClusterID()
	})
}

// A disk that fails right behind the first start does not end the node: what is
// left of the start is forgotten once it can be.
func TestFirstStartEndsOnAFailedDisk(t *testing.T) {
	t.Parallel()
	s := newSites(t, 1, nil)[0]
	s.up()
	awaitReady(t, s)
	s.kill()
	n := s.make()
	self := n.ident.ServerID()
	must(t, n.ident.update(func(id *clusterpb.Identity) error {
		id.Promise = &clusterpb.Promise{ClusterId: id.ClusterId, Coordinator: self}
		return nil
	}))
	n.ident.dir = filepath.Join(s.cfg.DataDir, "gone")
	s.run(n)
	awaitReady(t, s)
	propose(t, n, "served")
	n.ident.mu.Lock()
	n.ident.dir = s.cfg.DataDir
	n.ident.mu.Unlock()
	eventually(t, 10*time.Second, "the promise is forgotten on disk", func() bool {
		i, err := readIdentity(s.cfg.DataDir)
		return err == nil && i.id.Promise == nil
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
