package cluster

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/cluster/clusterpb"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// disaster is a cluster that has lost its majority: survivors and lost nodes
// are stopped, their disks are as they were, and the survivors have all that
// was acknowledged.
type disaster struct {
	survivors, lost []*site
	before          *fsm.State
}

func newDisaster(t *testing.T, nodes, survivors int) *disaster {
	t.Helper()
	sites := newSites(t, nodes, nil)
	upAll(sites)
	awaitReady(t, sites...)
	eventually(t, 15*time.Second, "all vote", func() bool { return len(voters(leader(t, sites).node)) == nodes })
	for i := range 20 {
		propose(t, sites[i%nodes].node, fmt.Sprintf("t%d", i))
	}
	last := propose(t, sites[0].node, "last").Index
	settled(t, sites, last)
	d := &disaster{survivors: sites[:survivors], lost: sites[survivors:], before: sites[0].node.State()}
	ends := func(s *site) uint64 { return s.node.rt.Load().raft.LastIndex() }
	eventually(t, 10*time.Second, "logs of one length", func() bool {
		return !slices.ContainsFunc(sites, func(s *site) bool { return ends(s) != ends(sites[0]) })
	})
	for _, s := range d.lost {
		s.kill()
	}
	for _, s := range d.survivors {
		s.kill()
	}
	return d
}

// voter is a site as recover takes it.
func voter(s *site) string {
	e, err := Examine(s.cfg.DataDir)
	must(s.t.(*testing.T), err)
	return e.ServerID() + "=" + s.cfg.address()
}

// planned is PlanRecovery of voters as an operator writes them.
func planned(s *site, token string, voters ...string) (*Recovery, error) {
	all, err := ParseVoters(voters)
	if err != nil {
		return nil, err
	}
	return PlanRecovery(s.cfg.DataDir, all, token)
}

func recoverSite(t *testing.T, s *site, token string, voters ...string) *Recovery {
	t.Helper()
	r, err := planned(s, token, voters...)
	must(t, err)
	must(t, r.Do(logger(t, s.cfg.NodeID)))
	return r
}

// joining makes a site one that only joins.
func joining(s *site) {
	s.cfg.BootstrapExpect, s.cfg.InitialMembers = 0, nil
}

// checkRecovered holds the state against what there was before the disaster.
func checkRecovered(t *testing.T, n *Node, d *disaster, r *Recovery) {
	t.Helper()
	for i := range 20 {
		if !hasTenant(n, fmt.Sprintf("t%d", i)) {
			t.Errorf("%s has lost t%d", n.NodeID(), i)
		}
	}
	old := d.before.Identity()
	want := &fsmpb.Identity{
		ClusterId: old.ClusterId, Epoch: r.ID, ParentClusterId: old.ClusterId, ParentEpoch: old.Epoch, ParentSeq: d.before.Seq(),
	}
	if got := n.State().Identity(); !proto.Equal(got, want) || old.Epoch == "" || d.before.Seq() == 0 {
		t.Errorf("identity %v, want %v", got, want)
	}
	seq := d.before.Seq()
	for ev := range n.State().Events(seq) {
		if seq++; ev.Seq != seq {
			t.Errorf("event %d, want %d", ev.Seq, seq)
		}
	}
}

func TestRecoverTheOnlySurvivorOfThree(t *testing.T) {
	t.Parallel()
	d := newDisaster(t, 3, 1)
	one := d.survivors[0]
	r := recoverSite(t, one, "", "n1="+one.cfg.address())
	one.up()
	awaitReady(t, one)
	checkRecovered(t, one.node, d, r)
	propose(t, one.node, "after")

	// A new node joins; so does a lost one on a new disk.
	fresh := d.lost[0]
	old := fresh.cfg.DataDir
	fresh.wipe()
	joining(fresh)
	more := newSites(t, 1, func(_ int, c *Config, _ *Deps) {
		c.NodeID, c.Join, c.BootstrapExpect = "n9", one.cfg.Join, 0
	})[0]
	fresh.up()
	more.up()
	awaitReady(t, fresh, more)
	eventually(t, 20*time.Second, "three voters", func() bool { return len(voters(one.node)) == 3 })
	propose(t, more.node, "from a new one")
	checkRecovered(t, more.node, d, r)
	if got := more.node.ident.get(); !slices.Equal(got.Recoveries, []string{r.ID}) || got.ClusterId != d.before.Identity().ClusterId {
		t.Errorf("a node that joined is %v", got)
	}

	// The lost nodes come back with their data. One is not believed, nor are
	// proxies served by it; the two are a majority of the old voters.
	lost := d.lost[1]
	back := newSites(t, 1, func(_ int, c *Config, _ *Deps) {
		c.NodeID, c.DataDir, c.Join = "n2", old, one.cfg.Join
	})[0]
	lost.cfg.StaleAfter = 5 * time.Second
	lost.up()
	saysSo := func(s *site) {
		t.Helper()
		eventually(t, 20*time.Second, s.cfg.NodeID+" says that its disk is to be moved aside", func() bool {
			return slices.ContainsFunc(s.node.Health().Reasons, func(reason string) bool {
				return strings.Contains(reason, r.ID) && strings.Contains(reason, s.node.ident.ServerID()) && strings.Contains(reason, "moved aside")
			})
		})
	}
	saysSo(lost)
	eventually(t, 20*time.Second, "stale data would be served", func() bool { return time.Since(lost.node.start) > 6*time.Second })
	if lost.node.Stale() || lost.node.Ready() {
		t.Error("data of before the recovery is served")
	}
	back.up()
	saysSo(back)
	refusedBothWays(t, one.node, lost.node)
	for _, s := range []*site{one, fresh, more} {
		if got := servers(s.node); len(got) != 3 || s.node.State().Identity().Epoch != r.ID {
			t.Errorf("%s: members %v, epoch %s", s.cfg.NodeID, got, s.node.State().Identity().Epoch)
		}
	}
	propose(t, fresh.node, "at last")

	// Moved aside, it is welcome.
	lost.kill()
	lost.wipe()
	joining(lost)
	lost.up()
	awaitReady(t, lost)
	if !hasTenant(lost.node, "at last") {
		t.Error("the last node misses a write")
	}
}

// refusedBothWays looks at each kind of connection between a recovered node
// and a lost one.
func refusedBothWays(t *testing.T, recovered, lost *Node) {
	t.Helper()
	hello := func(from, to *Node, kind clusterpb.Hello_Kind) *clusterpb.Hello {
		id := from.ident.get()
		return &clusterpb.Hello{
			Kind: kind, ClusterId: id.ClusterId, Recoveries: id.Recoveries, Source: from.ident.ServerID(), Target: to.ident.ServerID(),
		}
	}
	for _, kind := range []clusterpb.Hello_Kind{clusterpb.Hello_RAFT, clusterpb.Hello_RPC} {
		for _, pair := range [][2]*Node{{recovered, lost}, {lost, recovered}} {
			reason := pair[0].Admit(hello(pair[1], pair[0], kind))
			if !strings.Contains(reason, "recovered") || !strings.Contains(reason, lost.ident.ServerID()) {
				t.Errorf("%s admits %s of %s: %q", pair[0].NodeID(), kind, pair[1].NodeID(), reason)
			}
			if pair[0].Believe(pair[1].Welcome()) == "" {
				t.Errorf("%s believes %s", pair[0].NodeID(), pair[1].NodeID())
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	client, err := lost.rt.Load().peers.to(recovered.ident.ServerID())
	must(t, err)
	if _, err := client.Join(ctx, &clusterpb.JoinRequest{ServerId: lost.ident.ServerID(), Address: lost.cfg.address()}); err == nil {
		t.Error("a lost node could ask to join")
	}
}

func TestRecoverTwoSurvivorsOfFive(t *testing.T) {
	t.Parallel()
	d := newDisaster(t, 5, 2)
	one, two := d.survivors[0], d.survivors[1]
	first, second := voter(one), voter(two)
	r := recoverSite(t, one, "", "n1="+one.cfg.address(), second)

	// Alone it has no majority, and the other is not believed as it is.
	one.up()
	two.up()
	eventually(t, 15*time.Second, "the second hears of the recovery", func() bool { return two.node.outdated.Load() != nil })
	if one.node.Ready() || two.node.Ready() {
		t.Error("ready without a majority")
	}
	two.kill()
	if _, err := planned(two, "", first, second); err != nil {
		t.Errorf("a recovery of its own: %v", err)
	}
	for name, wrong := range map[string][]string{
		"other voters":    {"n2=" + two.cfg.address()},
		"another address": {first, "n2=127.0.0.1:9"},
	} {
		if _, err := planned(two, r.Token, wrong...); err == nil || !strings.Contains(err.Error(), "this is not the recovery "+r.ID) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if other := recoverSite(t, two, r.Token, first, "n2="+two.cfg.address()); other.ID != r.ID {
		t.Fatalf("recoveries %s and %s", r.ID, other.ID)
	}
	two.up()
	awaitReady(t, one, two)
	checkRecovered(t, one.node, d, r)
	checkRecovered(t, two.node, d, r)
	propose(t, two.node, "after")

	// Three lost nodes are a majority of the five. They come up beside the
	// recovered ones, and stay a cluster of their own that knows it is none.
	for _, s := range d.lost {
		s.up()
	}
	for _, s := range d.lost {
		eventually(t, 20*time.Second, s.cfg.NodeID+" hears of the recovery", func() bool { return s.node.outdated.Load() != nil })
		refusedBothWays(t, one.node, s.node)
	}
	// A new node that sees both joins the recovered cluster.
	fresh := newSites(t, 1, func(_ int, c *Config, _ *Deps) {
		c.NodeID, c.Join, c.BootstrapExpect = "n9", one.cfg.Join, 0
	})[0]
	fresh.up()
	awaitReady(t, fresh)
	if !hasTenant(fresh.node, "after") || fresh.node.State().Identity().Epoch != r.ID {
		t.Errorf("the new node has joined epoch %s", fresh.node.State().Identity().Epoch)
	}
	eventually(t, 20*time.Second, "three voters", func() bool {
		return slices.Equal(voters(leader(t, []*site{one, two, fresh}).node), []string{"n1", "n2", "n9"})
	})
}

// A survivor whose log is shorter than another's cannot be a voter beside it.
func TestRecoverRefusesADataThatEndsEarlier(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 3, nil)
	upAll(sites)
	awaitReady(t, sites...)
	sites[2].kill()
	propose(t, sites[0].node, "more")
	for _, s := range sites[:2] {
		s.kill()
	}
	voters := []string{voter(sites[0]), voter(sites[2])}
	r, err := planned(sites[0], "", voters...)
	must(t, err)
	if _, err := planned(sites[2], r.Token, voters...); err == nil || !strings.Contains(err.Error(), "does not end at the same index") {
		t.Errorf("%v", err)
	}
}

func TestRecoverDryRunChangesNothing(t *testing.T) {
	t.Parallel()
	d := newDisaster(t, 3, 1)
	s := d.survivors[0]
	before := files(t, s.cfg.DataDir)
	r, err := planned(s, "", "n1="+s.cfg.address())
	must(t, err)
	if after := files(t, s.cfg.DataDir); !maps.Equal(before, after) {
		t.Error("the dry run changed the directory")
	}
	if r.LastIndex < d.before.Index() || r.Committed < d.before.Index() || r.LastTerm == 0 || len(r.Configuration.Servers) != 3 || len(r.Voters) != 1 {
		t.Errorf("the plan: %+v", r)
	}
	id := r.ServerID()
	for text, want := range map[string]string{
		"":                        "no voters",
		"n1":                      "is not <node id>=",
		"n1=host":                 "is not <node id>=",
		"n1=:7000":                "is not <node id>=",
		"n1=host:0":               "not a port",
		"n1=host:port":            "not a port",
		"n2=host:7000":            "n2/<incarnation>",
		"n2/beef=host:7000":       "no member",
		"n1/beef=host:7000":       "that of " + id,
		voter(d.lost[0]):          "must be among the voters",
		"n1=a:1 " + id + "=b:1":   "named twice",
		"n1=a:1 n1=a:1":           "named twice",
		"n1=a:1 nonsense":         `voter "nonsense"`,
		"n1=a:1 n9/0011aa=host:1": "can join afterwards",
	} {
		if _, err := planned(s, "", strings.Fields(text)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	n := s.up()
	eventually(t, 10*time.Second, "it runs", func() bool { return n.rt.Load() != nil })
	if _, err := planned(s, "", "n1="+s.cfg.address()); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a running node: %v", err)
	}
	if err := r.Do(logger(t, "n1")); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a running node: %v", err)
	}
}

// Cut off at any step, the node starts with the old state or the new one, and
// recover ends well when it is called again.
func TestRecoverInterrupted(t *testing.T) {
	t.Parallel()
	d := newDisaster(t, 3, 1)
	s := d.survivors[0]
	original := s.cfg.DataDir
	for _, step := range []string{"staged", "decided", "placed", "cleared"} {
		for _, again := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, again %v", step, again), func(t *testing.T) {
				s.t = t
				s.cfg.DataDir = t.TempDir()
				must(t, os.CopyFS(s.cfg.DataDir, os.DirFS(original)))
				want := "n1=" + s.cfg.address()
				r, err := planned(s, "", want)
				must(t, err)
				interrupt(t, r, step)
				if again {
					second, err := planned(s, "", want)
					must(t, err)
					if second.Unfinished != (step != "staged") || (second.Unfinished && second.ID != r.ID) {
						t.Fatalf("the second time: unfinished %v, %s", second.Unfinished, second.ID)
					}
					must(t, second.Do(logger(t, "n1")))
					r = second
				}
				n := s.up()
				if !again && step == "staged" {
					eventually(t, 10*time.Second, "it runs", func() bool { return n.rt.Load() != nil })
					if got := voters(n); len(got) != 3 || len(n.ident.get().Recoveries) > 0 || n.ident.get().Recovering != "" {
						t.Errorf("not the old state: %v, %v", got, n.ident.get())
					}
				} else {
					awaitReady(t, s)
					checkRecovered(t, n, d, r)
					if id := n.ident.get(); id.Recovering != "" || !slices.Equal(id.Recoveries, []string{r.ID}) {
						t.Errorf("identity %v", id)
					}
					if _, err := os.Stat(filepath.Join(s.cfg.DataDir, "recovery")); err == nil {
						t.Error("the stage is still there")
					}
				}
				s.kill()
			})
		}
	}
}

// interrupt ends a recovery as a crash at a step would.
func interrupt(t *testing.T, r *Recovery, step string) {
	t.Helper()
	r.crash = func(at string) error {
		if at == step {
			return errTest
		}
		return nil
	}
	if step == "cleared" { // all is done but the last write
		must(t, r.Do(logger(t, "n1")))
		id, err := readIdentity(r.Dir)
		must(t, err)
		all, err := filepath.Glob(filepath.Join(r.Dir, "snapshots", "*"))
		must(t, err)
		must(t, id.update(func(id *clusterpb.Identity) error {
			id.Recovering = filepath.Base(all[0])
			return nil
		}))
		return
	}
	if step == "placed" { // within Adopt: the snapshot is in its place, all else is as it was
		r.crash = func(at string) error {
			if at != "decided" {
				return nil
			}
			id, err := readIdentity(r.Dir)
			must(t, err)
			name := id.get().Recovering
			must(t, os.Rename(filepath.Join(r.Dir, "recovery", "snapshots", name), filepath.Join(r.Dir, "snapshots", name)))
			return errTest
		}
	}
	if err := r.Do(logger(t, "n1")); err == nil {
		t.Fatal("the recovery was not interrupted")
	}
}

func TestRecoverTwice(t *testing.T) {
	t.Parallel()
	d := newDisaster(t, 3, 1)
	s := d.survivors[0]
	left, err := Examine(s.cfg.DataDir) // it may have led, or followed another, when the first were lost
	must(t, err)
	first := recoverSite(t, s, "", "n1="+s.cfg.address())
	second := recoverSite(t, s, "", "n1="+s.cfg.address())
	if first.ID == second.ID {
		t.Error("two recoveries with one id")
	}
	n := s.up()
	awaitReady(t, s)
	if id := n.State().Identity(); id.Epoch != second.ID || id.ParentEpoch != first.ID || id.ParentSeq != left.State.Seq()+1 {
		t.Errorf("identity %v", id)
	}
	if got := n.ident.get().Recoveries; !slices.Equal(got, []string{first.ID, second.ID}) {
		t.Errorf("recoveries %v", got)
	}
	// Whoever knows the first one only is a lost node too.
	hello := &clusterpb.Hello{Kind: clusterpb.Hello_RAFT, Source: "n2/x", Target: n.ident.ServerID(), ClusterId: n.ident.ClusterID()}
	for _, known := range [][]string{nil, {first.ID}, {second.ID}, {first.ID, "other"}} {
		if hello.Recoveries = known; n.Admit(hello) == "" {
			t.Errorf("admits a node that knows %v", known)
		}
	}
	if hello.Recoveries = []string{first.ID, second.ID}; n.Admit(hello) != "" {
		t.Errorf("refuses one of its own: %s", n.Admit(hello))
	}
}

// A new node that asked a lost node first goes over to the recovered cluster.
func TestNewNodeFollowsTheRecovery(t *testing.T) {
	t.Parallel()
	d := newDisaster(t, 3, 1)
	one, lost := d.survivors[0], d.lost[0]
	lost.up()
	eventually(t, 10*time.Second, "the lost node runs", func() bool { return lost.node.rt.Load() != nil })
	fresh := newSites(t, 1, func(_ int, c *Config, _ *Deps) {
		c.NodeID, c.Join, c.BootstrapExpect = "n9", one.cfg.Join, 0
	})[0]
	fresh.up()
	eventually(t, 15*time.Second, "it belongs to the cluster", func() bool { return fresh.node.ident.ClusterID() != "" })
	r := recoverSite(t, one, "", "n1="+one.cfg.address())
	one.up()
	awaitReady(t, one, fresh)
	checkRecovered(t, fresh.node, d, r)
	if fresh.node.outdated.Load() != nil {
		t.Error("it takes itself for a lost node")
	}
}

func TestViewLeavesOutLostNodes(t *testing.T) {
	in := func(cluster string, recoveries ...string) *clusterpb.NodeInfo {
		return &clusterpb.NodeInfo{ClusterId: cluster, Recoveries: recoveries}
	}
	type infos = map[string]*clusterpb.NodeInfo
	for name, c := range map[string]struct {
		infos infos
		want  []string
		wait  bool
	}{
		"no cluster":              {infos{"a": in(""), "b": in("")}, nil, false},
		"one cluster":             {infos{"a": in("x"), "b": in("x"), "c": in("")}, []string{"a", "b"}, false},
		"two clusters":            {infos{"a": in("x"), "b": in("y", "r")}, []string{"a", "b"}, false},
		"a recovered one":         {infos{"a": in("x"), "b": in("x", "r"), "c": in("x")}, []string{"b"}, false},
		"recovered twice":         {infos{"a": in("x", "r"), "b": in("x", "r", "s"), "c": in("x")}, []string{"b"}, false},
		"two recoveries":          {infos{"a": in("x", "r"), "b": in("x", "s")}, nil, true},
		"two recoveries, one old": {infos{"a": in("x", "r"), "b": in("x", "s"), "c": in("x")}, nil, true},
	} {
		members, wait := view{infos: c.infos}.members()
		var got []string
		for id := range members {
			got = append(got, id)
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) || (wait != "") != c.wait {
			t.Errorf("%s: %v, waits for %q", name, got, wait)
		}
	}
}

// files returns what is in a directory.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		body := []byte{}
		if !e.IsDir() {
			if body, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		out[path] = fmt.Sprint(info.ModTime(), info.Mode(), string(body))
		return nil
	}))
	return out
}
