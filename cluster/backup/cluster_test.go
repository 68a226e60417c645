package backup

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/cluster"
	"github.com/org/envoy-control-plane/deploy/local"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// member is a real node with its keeper.
type member struct {
	*cluster.Node
	keeper *Keeper
	kill   func()
}

// startMembers starts real nodes, which make one cluster. Those of a directory
// keep backups there.
func startMembers(t *testing.T, count int, dir string, change func(i int, c *cluster.Config)) []*member {
	t.Helper()
	ports, err := local.FreePorts(2 * count)
	if err != nil {
		t.Fatal(err)
	}
	var all []*member
	for i := range count {
		m := &member{kill: func() {}}
		cfg := cluster.Config{
			NodeID: fmt.Sprintf("n%d", i+1), DataDir: t.TempDir(), Bind: "127.0.0.1", Advertise: "127.0.0.1",
			RaftPort: ports[2*i], GossipPort: ports[2*i+1], BootstrapExpect: count, Build: "test",
		}
		if count > 1 {
			for j := range count {
				cfg.Join = append(cfg.Join, fmt.Sprintf("127.0.0.1:%d", ports[2*j+1]))
			}
		}
		if change != nil {
			change(i, &cfg)
		}
		m.Node, err = cluster.New(cfg, cluster.Deps{
			Log: slog.New(slog.DiscardHandler), Backup: func() *fsmpb.BackupReport {
				if m.keeper == nil {
					return nil
				}
				return m.keeper.Report()
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if dir != "" {
			m.keeper = newKeeper(t, &directory{dir}, m, func(cfg *Config) { cfg.Every = 3 * time.Second })
		}
		all = append(all, m)
	}
	for _, m := range all {
		m.start(t)
	}
	for _, m := range all {
		eventually(t, 30*time.Second, "ready", m.Ready)
	}
	return all
}

func (m *member) start(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	rest := func() {}
	if m.keeper != nil {
		rest = runs(t, m.keeper)
	}
	m.kill = sync.OnceFunc(func() {
		cancel()
		rest()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", m.NodeID(), err)
		}
	})
	t.Cleanup(m.kill)
}

// report waits until the cluster says of its backups what is wanted.
func report(t *testing.T, m *member, what string, ok func(*fsmpb.BackupReport) bool) *fsmpb.BackupReport {
	t.Helper()
	var b *fsmpb.BackupReport
	eventually(t, 30*time.Second, what, func() bool {
		r, err := m.Node.Report(t.Context())
		b = r.GetBackup()
		return err == nil && b != nil && ok(b)
	})
	return b
}

// A real cluster of three makes one backup an interval, whoever leads it, and
// every node knows of it. A new cluster goes on from the last one.
func TestBackupsOverAChangeOfLeader(t *testing.T) {
	dir := t.TempDir()
	all := startMembers(t, 3, dir, nil)
	write := func(m *member, tenant string) *fsmpb.Result {
		r, err := m.Propose(t.Context(), &fsmpb.Command{
			By: "test", Op: &fsmpb.Command_PutTenant{PutTenant: &fsmpb.PutTenant{Name: tenant}},
			Idempotency: &fsmpb.IdempotencyKey{Key: tenant, RequestHash: []byte(tenant)},
		})
		if err != nil || fsm.ResultError(r) != nil {
			t.Fatalf("%v, %v", r, err)
		}
		return r
	}
	for round := range 2 {
		wrote := write(all[round], fmt.Sprintf("round-%d", round)).Index
		report(t, all[2-round], "a backup of what was written", func(b *fsmpb.BackupReport) bool { return b.Index >= wrote })
		for _, m := range all {
			if m.IsLeader() {
				if err := m.StepDown(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	wrote := write(all[0], "last").Index
	last := report(t, all[1], "a backup by the last leader", func(b *fsmpb.BackupReport) bool { return b.Index >= wrote })
	id := all[0].State().Identity().GetClusterId()
	for _, m := range all {
		m.kill()
	}
	var before time.Time
	for _, name := range names(t, dir) { // sorted by name, which is by time
		b, ok := parse(name)
		if !ok || b.Cluster != id {
			t.Errorf("%s is there", name)
		}
		if gap := b.At.Sub(before); gap < 3*time.Second {
			t.Errorf("%s was made %s after the one before", name, gap)
		}
		before = b.At
	}

	file := filepath.Join(dir, last.Name)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, saved, err := fsm.ReadBackup(f)
	if err != nil {
		t.Fatal(err)
	}
	seeded := startMembers(t, 1, "", func(_ int, c *cluster.Config) { c.Restore, c.FromCluster = file, id })[0]
	restored := seeded.State()
	if restored.Identity().GetParentClusterId() != id || restored.Seq() < saved.Seq() {
		t.Errorf("restored as %v at %d, from %d", restored.Identity(), restored.Seq(), saved.Seq())
	}
	for _, tenant := range []string{"round-0", "round-1", "last"} {
		was, _ := saved.Tenant(tenant)
		is, ok := restored.Tenant(tenant)
		if !ok || was.GetIndex() != is.GetIndex() {
			t.Errorf("%s: %v, restored as %v", tenant, was, is)
		}
	}
}
