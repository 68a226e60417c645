package e2e

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/deploy/bootstrap"
	"github.com/org/envoy-control-plane/deploy/local"
)

// TestBackupRestoreSeed: a backup is restored under a running Envoy, which goes
// back to what the backup has; and it seeds another cluster, which serves the
// same to an Envoy of its own.
func TestBackupRestoreSeed(t *testing.T) {
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

	green := startSeeded(t, file, b.Cluster)
	var cluster struct{ ID, Epoch string }
	if err := get(green.urls[0]+"/api/v1/cluster", &cluster); err != nil || cluster.ID == b.Cluster || cluster.Epoch == b.Epoch {
		t.Errorf("%+v, %v", cluster, err)
	}
	if err := envoy.Stop(t.Context()); err != nil { // its port is wanted
		t.Fatal(err)
	}
	green.startEnvoy(bootstrap.Options{Proxy: "edge", Fleet: "edge"})
	eventually(t, 20*time.Second, "the other cluster's Envoy", func() error { return routed(ports[0], "/", "before") })
}

// startSeeded starts three nodes that make a cluster of a backup, which the
// last of them has.
func startSeeded(t *testing.T, file, from string) *cluster {
	t.Helper()
	c := newCluster(t, 3, "")
	c.options[2].Args = append(c.options[2].Args, "--restore", file, "--from-cluster", from)
	c.start()
	return c
}
