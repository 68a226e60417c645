package main

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/org/envoy-control-plane/cmd/ecpbench/trio"
	"github.com/org/envoy-control-plane/deploy/local"
)

// built is the program envoy-control-plane, built once.
var built = sync.OnceValues(func() (string, error) {
	err := local.Build(binaries, "github.com/org/envoy-control-plane/cmd/envoy-control-plane")
	return filepath.Join(binaries, "envoy-control-plane"), err
})

// clusterRun runs a benchmark of whole clusters: of ours, and beside etcd where
// that is installed.
func clusterRun(t *testing.T, args ...string) *result {
	t.Helper()
	bin, err := built()
	if err != nil {
		t.Fatal(err)
	}
	servers := trio.ECP
	if _, err := exec.LookPath("etcd"); err == nil && (args[0] == "write" || args[0] == "read") {
		servers = trio.Etcd + "," + servers
	} else {
		t.Log("etcd is not measured")
	}
	return measured(t, append(args, "--servers", servers, "--bin", bin, "--dir", t.TempDir(), "--rounds", "1", "--timeout", "4m", "-o", "json")...)
}

// wantFigures wants figures above 0 of our cluster, with ratios if there is
// what to compare with.
func wantFigures(t *testing.T, r *result, names ...string) {
	t.Helper()
	ours := r.Servers[len(r.Servers)-1]
	if ours.Server != trio.ECP || r.Trio == nil || r.Trio.SyncMicros <= 0 {
		t.Fatalf("result %+v", *r)
	}
	for _, name := range names {
		f := ours.figure(name)
		if f == nil || f.Value <= 0 {
			t.Errorf("%s: %+v", name, f)
		} else if (f.Ratio != nil) != (len(r.Servers) > 1) {
			t.Errorf("%s has the ratio %v beside %d others", name, f.Ratio, len(r.Servers)-1)
		}
	}
}

func TestWrite(t *testing.T) {
	r := clusterRun(t, "write", "--clients", "6", "--for", "500ms")
	wantFigures(t, r, "writes per second", "writes: time, p50", "writes: time, max")
	for _, o := range r.Servers {
		if f := o.figure("failed writes"); f == nil || f.Value != 0 {
			t.Errorf("%s: %+v", o.Server, f)
		}
		if f := o.figure("fdatasync and fsync per 1,000 writes"); f != nil && f.Value <= 0 {
			t.Errorf("%s: %+v", o.Server, f)
		}
	}
}

func TestWriteAtARate(t *testing.T) {
	r := clusterRun(t, "write", "--clients", "3", "--rate", "60", "--for", "1s", "--busy", "1", "--syncs=false")
	wantFigures(t, r, "writes per second")
	if f := r.Servers[len(r.Servers)-1].figure("writes per second"); f != nil && f.Value > 90 {
		t.Errorf("%.0f writes a second, 60 were wanted", f.Value)
	}
}

func TestRead(t *testing.T) {
	r := clusterRun(t, "read", "--clients", "3", "--for", "300ms", "--proxies", "150")
	wantFigures(t, r, "local reads per second", "strong reads per second")
	for _, name := range []string{"reads of a proxy per second", "pages of 100 proxies per second", "fleet status per second"} {
		if f := r.Servers[len(r.Servers)-1].figure(name); f == nil || f.Value <= 0 || f.Ratio != nil {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestFailover(t *testing.T) {
	for _, args := range [][]string{{"--kills", "1"}, {"--kills", "2", "--orderly"}} {
		r := clusterRun(t, append([]string{"failover", "--clients", "2"}, args...)...)
		wantFigures(t, r, "until the next acknowledged write, p50", "until the next acknowledged write, max")
	}
}

func TestRestore(t *testing.T) {
	r := clusterRun(t, "restore", "--resources", "2000", "--proxies", "300")
	wantFigures(t, r, "restore, until the answer", "restore, until all members serve it", "backup", "new cluster of it, until all are ready")
	if r.Baseline != copies || r.Servers[0].Server != copies {
		t.Errorf("result %+v", *r)
	}
}

func TestArchive(t *testing.T) {
	r := clusterRun(t, "archive", "--clients", "12", "--for", "1s")
	wantFigures(t, r, "rows stored per second", "writes, archive live per second", "writes, archive blocked per second")
	if f := r.Servers[1].figure("rows that waited"); r.Baseline != bare || f == nil || f.Value < 100 {
		t.Errorf("result %+v", *r)
	}
}

func TestEvents(t *testing.T) {
	r := clusterRun(t, "events", "--clients", "3", "--for", "1s", "--rate", "60", "--subscribers", "20", "--all", "5")
	wantFigures(t, r, "writes per second", "writes: time, p99")
	for name, between := range map[string][2]float64{
		"events delivered per second":            {5 * 30, 5 * 130},
		"event delivered, since its commit, p50": {0.01, 1000},
	} {
		f := r.Servers[1].figure(name)
		if r.Baseline != alone || f == nil || f.Value < between[0] || f.Value > between[1] {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestClusterMisuse(t *testing.T) {
	bin, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"write", "--clients", "0"},
		{"write", "--rate", "-1"},
		{"write", "--busy", "-1"},
		{"write", "--for", "0s"},
		{"write", "--rounds", "0"},
		{"write", "--servers", "b0"},
		{"write", "--servers", "ecp,ecp"},
		{"write", "-o", "xml"},
		{"write", "--bin", "/does/not/exist"},
		{"read", "--proxies", "0"},
		{"failover", "--kills", "0"},
		{"restore", "--resources", "10"},
		{"archive", "--clients", "0"},
		{"events", "--clients", "0"},
		{"events", "--subscribers", "2", "--all", "3"},
		{"events", "--all", "0"},
	} {
		if !slices.Contains(args, "--bin") {
			args = append(args, "--bin", bin)
		}
		if !slices.Contains(args, "--servers") && !slices.Contains([]string{"restore", "archive", "events"}, args[0]) {
			args = append(args, "--servers", "ecp")
		}
		if stdout, stderr := ecpbench(t, exitUsage, args...); stdout != "" || !strings.HasPrefix(stderr, "ecpbench: ") {
			t.Errorf("ecpbench %v wrote %q and said %q", args, stdout, stderr)
		}
	}
}
