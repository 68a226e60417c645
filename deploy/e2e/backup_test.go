package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/deploy/bootstrap"
	"github.com/org/envoy-control-plane/deploy/local"
)

// TestBackupRestoreSeed: a backup is restored under a running Envoy, which goes
// back to what the backup has; and it seeds another cluster, which serves the
// same to an Envoy of its own.
func TestBackupRestoreSeed(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, local.TestDatabase(t))
	before, after := startUpstream(t, "before"), startUpstream(t, "after")
	ports := freePorts(t, 1)
	c.ecpctl(0, fleetYAML(t, ports[0], before), "apply", "-f", "-", "--fleet", "edge")
	envoy := c.startEnvoy(bootstrap.Options{Proxy: "edge", Fleet: "edge"})
	eventually(t, 20*time.Second, "routing", func() error { return routed(ports[0], "/", "before") })
	file := filepath.Join(t.TempDir(), "backup")
	var b client.Backup
	if err := json.Unmarshal([]byte(c.ecpctl(0, "", "backup", file, "--verify", "-o", "json")), &b); err != nil {
		t.Fatal(err)
	}
	changed := strings.ReplaceAll(fleetYAML(t, ports[0], after), "timeout: 15s", "timeout: 16s")
	c.ecpctl(0, changed, "apply", "-f", "-", "--fleet", "edge", "--wait=20s")
	eventually(t, 20*time.Second, "the change", func() error { return routed(ports[0], "/", "after") })
	c.ecpctl(0, "", "restore", file, "--yes")
	eventually(t, 20*time.Second, "what was before", func() error { return routed(ports[0], "/", "before") })
	c.ecpctl(0, changed, "apply", "-f", "-", "--fleet", "edge", "--wait=20s")
	eventually(t, 20*time.Second, "the change, made again", func() error { return routed(ports[0], "/", "after") })
	c.archivedOnce() // what was undone, too

	green := startSeeded(t, file, b.Cluster, c.database) // the same archive
	var cluster struct{ ID, Epoch string }
	if err := get(green.urls[0]+"/api/v1/cluster", &cluster); err != nil || cluster.ID == b.Cluster || cluster.Epoch == b.Epoch {
		t.Errorf("%+v, %v", cluster, err)
	}
	eventually(t, 30*time.Second, "both are archived", func() error {
		return archivedApart(t.Context(), c.database, cluster.ID, b.Cluster)
	})
	if err := envoy.Stop(t.Context()); err != nil { // its port is wanted
		t.Fatal(err)
	}
	green.startEnvoy(bootstrap.Options{Proxy: "edge", Fleet: "edge"})
	eventually(t, 20*time.Second, "the other cluster's Envoy", func() error { return routed(ports[0], "/", "before") })
}

// TestScheduledBackups: three nodes with a bucket for backups go on with the
// schedule when the leader is killed, say so while the storage is away, stay
// ready, and go on when it is back; what they have stored seeds another cluster.
func TestScheduledBackups(t *testing.T) {
	t.Parallel()
	s3 := startS3(t, t.TempDir(), freePorts(t, 1)[0])
	if err := s3.MakeBucket("backups"); err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, 3, "", "--backup-to", s3.URL("backups/prod"), "--backup-every", "2s", "--backup-keep", "3")
	for i := range c.options {
		c.options[i].Env = local.S3Env()
	}
	c.start()
	var now wire.Cluster
	told := func(what string, ok func(b *wire.BackupStatus) bool) {
		t.Helper()
		eventually(t, 40*time.Second, what, func() error {
			err := json.Unmarshal([]byte(c.ecpctl(0, "", "cluster", "-o", "json")), &now)
			if err == nil && (now.Backup == nil || !ok(now.Backup)) {
				err = fmt.Errorf("%+v", now.Backup)
			}
			return err
		})
	}
	wrote := func(tenant string) {
		t.Helper()
		c.ecpctl(0, "", "create", "tenant", tenant)
		if err := json.Unmarshal([]byte(c.ecpctl(0, "", "cluster", "-o", "json")), &now); err != nil {
			t.Fatal(err)
		}
		index := now.Index
		told("a backup with "+tenant, func(b *wire.BackupStatus) bool {
			return b.State == wire.BackupOK && b.Last != nil && b.Last.Index >= index
		})
	}
	told("a backup", func(b *wire.BackupStatus) bool { return b.Last != nil })
	wrote("one")
	c.nodes[c.leader()].Kill()
	wrote("two")
	c.start()

	if err := s3.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	told("the outage", func(b *wire.BackupStatus) bool {
		return b.State == wire.BackupFailing && strings.Contains(b.Reason, "connection refused")
	})
	var ready wire.Ready
	eventually(t, 20*time.Second, "the leader is ready, and degraded", func() error {
		if err := get(c.urls[c.leader()]+"/ready", &ready); err != nil {
			return err
		}
		if !ready.Ready || !slices.ContainsFunc(ready.Parts, func(p wire.Part) bool { return p.Name == "backup" && p.OK && p.Degraded }) {
			return fmt.Errorf("%+v", ready)
		}
		return nil
	})
	startS3(t, s3.Dir, s3.Port)
	wrote("three")

	files, err := filepath.Glob(filepath.Join(s3.Dir, "buckets/backups/prod/ecp-*.snap"))
	if err != nil || len(files) > 4 { // a fourth while the oldest is being removed
		t.Fatalf("%d backups, %v", len(files), err)
	}
	file := filepath.Join(t.TempDir(), "backup") // the bucket's goes one day
	raw, err := os.ReadFile(files[len(files)-1])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	c.ecpctl(0, "", "restore", file, "--dry-run")
	green := startSeeded(t, file, now.ID, "")
	for _, tenant := range []string{"one", "two", "three"} {
		if err := get(green.urls[0]+"/api/v1/tenants/"+tenant, &wire.Tenant{}); err != nil {
			t.Error(err)
		}
	}
}

// startS3 starts an S3 server, or again what it had.
func startS3(t *testing.T, dir string, port int) *local.S3 {
	t.Helper()
	s, err := local.StartS3(t.Context(), dir, port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

// startSeeded starts three nodes that make a cluster of a backup, which the
// last of them has.
func startSeeded(t *testing.T, file, from, database string) *cluster {
	t.Helper()
	c := newCluster(t, 3, database)
	c.options[2].Args = append(c.options[2].Args, "--restore", file, "--from-cluster", from)
	c.start()
	return c
}

// archivedApart wants every history in a database whole, each event once, and
// that of a cluster to name the one that it was seeded from.
func archivedApart(ctx context.Context, database, cluster, parent string) error {
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var named string
	err = conn.QueryRow(ctx, "SELECT parent_cluster FROM archive_epochs WHERE cluster = $1 AND parent_epoch <> ''", cluster).Scan(&named)
	if err != nil {
		return err
	}
	if named != parent {
		return fmt.Errorf("%s comes from %q, not from %s", cluster, named, parent)
	}
	var whole, broken int
	err = conn.QueryRow(ctx, `SELECT count(*) FILTER (WHERE ok), count(*) FILTER (WHERE NOT ok) FROM (
		SELECT count(*) = count(DISTINCT e.seq) AND min(e.seq) = first_seq AND max(e.seq) = c.seq AND count(*) = c.seq - first_seq + 1 AS ok
		FROM fleet_events e JOIN archive_epochs USING (cluster, epoch) JOIN archive_cursor c USING (cluster, epoch)
		GROUP BY cluster, epoch, first_seq, c.seq) h`).Scan(&whole, &broken)
	if err == nil && (whole < 2 || broken > 0) {
		err = fmt.Errorf("%d histories are whole, %d are not", whole, broken)
	}
	return err
}
