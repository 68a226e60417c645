package api_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"testing"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
)

const snapshotPath = "/api/v1/cluster/snapshot"

// TestBackup: the head of a backup says what its bytes are.
func TestBackup(t *testing.T) {
	r := newRig(t).withFleet()
	r.put("/api/v1/cluster/read-only", `{"read_only": true}`)
	got := r.get(snapshotPath)
	if got.status != 200 || got.header.Get("Content-Type") != wire.MediaSnapshot {
		t.Fatalf("%d %v", got.status, got.header)
	}
	sum := sha256.Sum256(got.raw)
	for name, want := range map[string]string{
		wire.HeaderDigest:  "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":",
		"Content-Length":   strconv.Itoa(len(got.raw)),
		wire.HeaderCluster: "c1", wire.HeaderEpoch: "e1", wire.HeaderTerm: "7",
		wire.HeaderIndex: strconv.FormatUint(r.ledger.state().Index(), 10),
	} {
		if got.header.Get(name) != want {
			t.Errorf("%s is %q, not %q", name, got.header.Get(name), want)
		}
	}
	st, err := fsm.ReadSnapshot(bytes.NewReader(got.raw))
	if err != nil || st.Index() != r.ledger.state().Index() {
		t.Fatal(err)
	}
	if r.ledger.state().ReadOnly() == nil || st.ReadOnly() != nil {
		t.Error("what is taken up from the backup is read-only")
	}
	r.get(snapshotPath+"?min_index=x").refused(wire.CodeInvalidParameter, "query.min_index")
}

// TestRestore: what came after the backup is gone, a dry run changes nothing.
func TestRestore(t *testing.T) {
	r := newRig(t).withFleet()
	backup := string(r.get(snapshotPath).raw)
	octets := []string{"Content-Type", wire.MediaSnapshot}
	r.put("/api/v1/tenants/later", "{}")
	try := decoded[wire.Restored](r.put(snapshotPath+"?dry_run=true", backup, octets...), 200)
	if !try.DryRun || try.Index != 0 || try.Epoch != "e1" || try.From.Cluster != "c1" || try.From.Index == 0 {
		t.Errorf("dry run: %+v", try)
	}
	if _, ok := r.ledger.state().Tenant("later"); !ok {
		t.Fatal("the dry run was none")
	}
	keyed := append([]string{wire.HeaderIdempotencyKey, "once"}, octets...)
	done := decoded[wire.Restored](r.put(snapshotPath, backup, keyed...), 200)
	if done.DryRun || done.Index != r.ledger.state().Index() || done.Epoch == "e1" || done.Epoch == "" || done.SHA256 != try.SHA256 {
		t.Errorf("restored: %+v", done)
	}
	if _, ok := r.ledger.state().Tenant("later"); ok {
		t.Error("a tenant is there that the backup has not")
	}
	again := r.put(snapshotPath, backup, keyed...)
	if got := decoded[wire.Restored](again, 200); got.Epoch != done.Epoch || again.header.Get(wire.HeaderReplayed) != "true" {
		t.Errorf("again: %+v", got)
	}

	r.put(snapshotPath, backup[:len(backup)-1], octets...).refused(wire.CodeInvalidSnapshot)
	r.put(snapshotPath, "{}", octets...).refused(wire.CodeInvalidSnapshot)
	r.put(snapshotPath, backup, "Content-Type", wire.MediaJSON).refused(wire.CodeUnsupportedMedia)
	r.node.set(func(n *node) { n.clusterErr = fsm.Refusal(fsm.CodeUnavailable, "too few voters") })
	r.put(snapshotPath, backup, octets...).refused(wire.CodeUnavailable)
}

// TestRestoreOfAnotherCluster has to be meant.
func TestRestoreOfAnotherCluster(t *testing.T) {
	backup := string(newRig(t).withFleet().get(snapshotPath).raw)
	r := newRig(t)
	r.ledger.st = fsm.New()
	r.ledger.apply(initCluster("c2", "e9"))
	octets := []string{"Content-Type", wire.MediaSnapshot}
	r.put(snapshotPath, backup, octets...).refused(wire.CodeForeignSnapshot)
	r.put(snapshotPath+"?from_cluster=c3", backup, octets...).refused(wire.CodeForeignSnapshot)
	done := decoded[wire.Restored](r.put(snapshotPath+"?from_cluster=c1", backup, octets...), 200)
	if id := r.ledger.state().Identity(); id.ClusterId != "c2" || id.Epoch != done.Epoch || done.From.Cluster != "c1" {
		t.Errorf("%v after %+v", id, done)
	}
	if _, ok := r.ledger.state().Fleet("default", "edge"); !ok {
		t.Error("no fleet")
	}
}
