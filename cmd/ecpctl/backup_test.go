package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

func TestBackupAndRestore(t *testing.T) {
	server, _ := startAPI(t, "")
	dir := t.TempDir()
	file := filepath.Join(dir, "a.snapshot")
	ecpctl(t, server, "", "create", "tenant", "kept").exits(exitDone)
	b := decode[client.Backup](ecpctl(t, server, "", "backup", file, "--verify", "-o", "json").exits(exitDone))
	if info, err := os.Stat(file); err != nil || info.Size() != b.Bytes || b.Cluster == "" || b.Index == 0 || len(b.SHA256) != 64 {
		t.Errorf("%+v, %v", b, err)
	}
	ecpctl(t, server, "", "backup", file).exits(exitFailed).complains("--force")
	ecpctl(t, server, "", "backup", file, "--force").exits(exitDone).prints("SHA-256", "cluster "+b.Cluster)
	ecpctl(t, server, "", "create", "tenant", "undone").exits(exitDone)

	ecpctl(t, server, "", "restore", file).exits(exitUsage)
	ecpctl(t, server, "", "restore", file, "--dry-run").exits(exitDone).prints("nothing was changed")
	ecpctl(t, server, "", "--tenant", "undone", "get", "fleets").exits(exitDone)
	done := decode[wire.Restored](ecpctl(t, server, "", "restore", file, "--yes", "-o", "json").exits(exitDone))
	if done.Epoch == b.Epoch || done.From.Epoch != b.Epoch {
		t.Errorf("%+v", done)
	}
	ecpctl(t, server, "", "--tenant", "kept", "get", "fleets").exits(exitDone)
	ecpctl(t, server, "", "--tenant", "undone", "get", "fleets").exits(exitFailed).complains("tenant_not_found")

	if err := os.WriteFile(file, []byte("nothing of the kind"), 0o600); err != nil {
		t.Fatal(err)
	}
	ecpctl(t, server, "", "restore", file, "--yes").exits(exitFailed).complains("invalid_snapshot")
	ecpctl(t, server, "", "restore", filepath.Join(dir, "none"), "--yes").exits(exitFailed)
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("files left: %v, %v", left, err)
	}
}
