package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func TestTransferLeadership(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 3, nil)
	upAll(sites)
	awaitReady(t, sites...)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for i, s := range sites {
		must(t, sites[(i+1)%3].node.TransferLeadership(ctx, s.cfg.NodeID))
		eventually(t, 3*time.Second, s.cfg.NodeID+" leads", func() bool { return s.node.IsLeader() })
		eventually(t, 3*time.Second, "all know it", func() bool {
			return sites[0].node.LeaderID() == s.cfg.NodeID && sites[1].node.LeaderID() == s.cfg.NodeID && sites[2].node.LeaderID() == s.cfg.NodeID
		})
	}
	if err := sites[0].node.TransferLeadership(ctx, "nobody"); fsm.CodeOf(err) != fsm.CodeNodeNotFound {
		t.Errorf("to nobody: %v", err)
	}
	before := leader(t, sites)
	must(t, before.node.TransferLeadership(ctx, ""))
	eventually(t, 3*time.Second, "another leader", func() bool { l := leader(t, sites); return l != before })
}

func TestRemoveNode(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 3, nil)
	upAll(sites)
	awaitReady(t, sites...)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := sites[0].node.RemoveNode(ctx, "nobody"); fsm.CodeOf(err) != fsm.CodeNodeNotFound {
		t.Errorf("nobody: %v", err)
	}
	// With one of three down, another one must stay.
	lead := leader(t, sites)
	rest := others(sites, lead)
	down, stays := rest[0], rest[1]
	down.kill()
	if err := stays.node.RemoveNode(ctx, stays.cfg.NodeID); fsm.CodeOf(err) != fsm.CodeWouldLoseQuorum {
		t.Errorf("removing %s while %s is down: %v", stays.cfg.NodeID, down.cfg.NodeID, err)
	}
	if got := len(servers(lead.node)); got != 3 {
		t.Fatalf("%d servers", got)
	}
	must(t, stays.node.RemoveNode(ctx, down.cfg.NodeID))
	if got := voters(lead.node); len(got) != 2 || slices.Contains(got, down.cfg.NodeID) {
		t.Errorf("voters %v", got)
	}
	// The leader itself: another one takes over and removes it.
	must(t, stays.node.RemoveNode(ctx, lead.cfg.NodeID))
	eventually(t, 5*time.Second, "one voter is left", func() bool { return slices.Equal(voters(stays.node), []string{stays.cfg.NodeID}) })
	propose(t, stays.node, "alone")
	if err := stays.node.RemoveNode(ctx, stays.cfg.NodeID); fsm.CodeOf(err) != fsm.CodeWouldLoseQuorum {
		t.Errorf("the last voter: %v", err)
	}
}

func TestGather(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 3, func(i int, _ *Config, d *Deps) {
		d.Answerer = func(_ context.Context, q *fsmpb.Query) (*fsmpb.Answer, error) {
			if q.GetStreams().GetTenant() == "broken" && i == 1 {
				return nil, errTest
			}
			return &fsmpb.Answer{Answer: &fsmpb.Answer_Streams{Streams: &fsmpb.StreamsAnswer{
				Streams: []*fsmpb.StreamReport{{Proxy: fmt.Sprint(i)}},
			}}}, nil
		}
		d.Streams = func() int { return 10 + i }
	})
	upAll(sites)
	awaitReady(t, sites...)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ask := func(tenant string) ([]*fsmpb.Answer, map[string]error) {
		return sites[2].node.Gather(ctx, &fsmpb.Query{Query: &fsmpb.Query_Streams{Streams: &fsmpb.StreamsQuery{Tenant: tenant}}})
	}
	answers, failed := ask("")
	if len(answers) != 3 || len(failed) != 0 {
		t.Fatalf("%v, %v", answers, failed)
	}
	for i, a := range answers {
		if a.Node != sites[i].cfg.NodeID || a.GetStreams().GetStreams()[0].GetProxy() != fmt.Sprint(i) {
			t.Errorf("answer %v", a)
		}
	}
	if answers, failed = ask("broken"); len(answers) != 2 || failed["n2"] == nil {
		t.Errorf("%v, %v", answers, failed)
	}
	// A query waits for the index that it wants to see.
	early, cancelEarly := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancelEarly()
	answers, failed = sites[0].node.Gather(early, &fsmpb.Query{Query: &fsmpb.Query_Fleet{Fleet: &fsmpb.FleetQuery{MinIndex: 1 << 40}}})
	if len(answers) != 0 || len(failed) != 3 {
		t.Errorf("before its index: %v, %v", answers, failed)
	}
	sites[0].kill()
	if answers, failed = ask(""); len(answers) != 2 || failed["n1"] == nil {
		t.Errorf("with one down: %v, %v", answers, failed)
	}
	eventually(t, 5*time.Second, "the report says so", func() bool {
		r, err := sites[2].node.Report(ctx)
		return err == nil && len(r.Nodes) == 3 && !r.Nodes[0].Healthy && r.Nodes[0].Reason != "" && r.Nodes[1].Healthy && r.Nodes[1].Streams == 11
	})
}

func TestWhileLeading(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 3, nil)
	upAll(sites)
	awaitReady(t, sites...)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var leading, overlaps, starts atomic.Int64
	done := make(chan error, len(sites))
	for _, s := range sites {
		go func() {
			done <- s.node.WhileLeading(ctx, func(ctx context.Context, term uint64) error {
				starts.Add(1)
				if term == 0 || leading.Add(1) > 1 {
					overlaps.Add(1)
				}
				<-ctx.Done()
				leading.Add(-1)
				return ctx.Err()
			})
		}()
	}
	for i := range 6 {
		eventually(t, 3*time.Second, "one leads", func() bool { return leading.Load() == 1 })
		must(t, sites[0].node.TransferLeadership(ctx, sites[i%3].cfg.NodeID))
	}
	if starts.Load() < 4 {
		t.Errorf("%d starts", starts.Load())
	}
	cancel()
	for range sites {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	// An error while it leads comes back.
	err := leader(t, sites).node.WhileLeading(context.Background(), func(context.Context, uint64) error { return errTest })
	if !errors.Is(err, errTest) {
		t.Errorf("%v", err)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 3, nil)
	upAll(sites)
	awaitReady(t, sites...)
	propose(t, sites[0].node, "counted")
	registry := sites[0].deps.Metrics.(*prometheus.Registry)
	families, err := registry.Gather()
	must(t, err)
	got := map[string]float64{}
	for _, f := range families {
		m := f.Metric[0]
		got[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	for _, name := range []string{
		"ecp_raft_term", "ecp_raft_commit_index", "ecp_raft_applied_index", "ecp_raft_apply_seconds", "ecp_cluster_ready",
		"ecp_cluster_proposals_total", "ecp_raft_store_writes_total", "ecp_raft_store_write_seconds_total",
	} {
		if got[name] <= 0 {
			t.Errorf("%s is %v", name, got[name])
		}
	}
	for _, name := range []string{
		"ecp_raft_leader", "ecp_raft_state", "ecp_raft_last_contact_seconds", "ecp_raft_snapshot_seconds",
		"ecp_raft_entry_commands", "ecp_raft_commit_seconds", "ecp_cluster_nodes",
	} {
		if _, ok := got[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
	if got["ecp_cluster_gossip_members"] != 3 {
		t.Errorf("%v gossip members", got["ecp_cluster_gossip_members"])
	}
	sites[0].kill()
	if families, err := registry.Gather(); err != nil || len(families) != 0 {
		t.Errorf("after Run: %v, %v", families, err)
	}
}

func TestClockThatIsFarOffStampsNothing(t *testing.T) {
	t.Parallel()
	var offset atomic.Int64
	s := newSites(t, 1, func(_ int, c *Config, d *Deps) {
		c.Failover = 100 * time.Millisecond
		d.now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
	})[0]
	s.up()
	awaitReady(t, s)
	propose(t, s.node, "now")
	stamp := s.node.State().Stamp()
	offset.Store(int64(-5 * time.Minute))
	propose(t, s.node, "a-little-behind")
	if now := s.node.State().Stamp(); now < stamp {
		t.Errorf("the log's time went back by %s", time.Duration(stamp-now))
	}
	offset.Store(int64(-11 * time.Minute))
	_, err := s.node.Propose(context.Background(), putTenant("far-behind"))
	if fsm.CodeOf(err) != fsm.CodeUnavailable || !strings.Contains(err.Error(), "clock") {
		t.Errorf("%v", err)
	}
	s.node.skew.Store(int64(11 * time.Minute))
	offset.Store(0)
	if _, err := s.node.Propose(context.Background(), putTenant("far-ahead")); fsm.CodeOf(err) != fsm.CodeUnavailable {
		t.Errorf("%v", err)
	}
}

func TestSkewIsMeasured(t *testing.T) {
	t.Parallel()
	sites := newSites(t, 3, func(i int, c *Config, d *Deps) {
		c.Membership = 50 * time.Millisecond
		if i == 0 {
			d.now = func() time.Time { return time.Now().Add(time.Hour) }
		}
	})
	upAll(sites)
	eventually(t, 10*time.Second, "a cluster", func() bool { return len(voters(sites[0].node)) == 3 })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	must(t, sites[1].node.TransferLeadership(ctx, "n1"))
	eventually(t, 5*time.Second, "the leader notices its clock", func() bool {
		return time.Duration(sites[0].node.skew.Load()).Round(time.Minute) == time.Hour
	})
	if _, err := sites[1].node.Propose(ctx, putTenant("from-the-future")); fsm.CodeOf(err) != fsm.CodeUnavailable {
		t.Errorf("%v", err)
	}
}

func TestIdentityOfADirectory(t *testing.T) {
	dir := t.TempDir()
	a, err := loadIdentity(dir, "a")
	must(t, err)
	again, err := loadIdentity(dir, "a")
	must(t, err)
	if a.ServerID() != again.ServerID() || nodeOf(a.ServerID()) != "a" {
		t.Errorf("%s, %s", a.ServerID(), again.ServerID())
	}
	if _, err := loadIdentity(dir, "b"); err == nil {
		t.Error("the directory changed its node")
	}
	other, err := loadIdentity(t.TempDir(), "a")
	must(t, err)
	if other.ServerID() == a.ServerID() {
		t.Error("two disks with one incarnation")
	}
	must(t, os.WriteFile(filepath.Join(dir, identityFile), []byte("{"), 0o600))
	if _, err := loadIdentity(dir, "a"); err == nil {
		t.Error("half a file")
	}
	must(t, os.Remove(filepath.Join(dir, identityFile)))
	must(t, os.WriteFile(filepath.Join(dir, "raft.db"), nil, 0o600))
	if _, err := loadIdentity(dir, "a"); err == nil {
		t.Error("a Raft log under a new incarnation")
	}
}

func TestValidateNamesEveryMistake(t *testing.T) {
	c := Config{NodeID: "a/b", Bind: "host", Advertise: "0.0.0.0", RaftPort: 70000, BootstrapExpect: 3, InitialMembers: []string{"x"}}
	err := c.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{"node id", "data directory", "bind", "advertised", "raft port", "gossip port", "initial members", "nobody to join"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in: %v", part, err)
		}
	}
}
