//go:build deploy

package scripts_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/deploy/local"
)

// startCluster starts three nodes.
func startCluster(t *testing.T, name, database string, each func(int, *local.NodeOptions)) *local.Cluster {
	t.Helper()
	return local.TestCluster(t, local.ClusterOptions{
		Bin: filepath.Join(bin, "envoy-control-plane"), Nodes: 3, Name: name, Dir: t.TempDir(), DatabaseURL: database, Each: each,
	})
}

func servers(c *local.Cluster) string { return strings.Join(c.URLs(), ",") }

// ecpctl returns what the CLI prints.
func ecpctl(t *testing.T, c *local.Cluster, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "ecpctl"), append([]string{"--server", servers(c)}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("ecpctl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// commands is where the commands that scripts are given go: each path is done
// in the test.
func commands(t *testing.T, do func(path string, query url.Values) error) (post string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := do(strings.TrimPrefix(r.URL.Path, "/"), r.URL.Query()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}))
	t.Cleanup(server.Close)
	return "curl --fail-with-body --silent --show-error -X POST " + server.URL + "/"
}

// TestBackupAndRestore: to a folder and a bucket, of state and archive, and
// back; twice; with what must be refused.
func TestBackupAndRestore(t *testing.T) {
	database, empty := local.TestDatabase(t), local.TestDatabase(t)
	c := startCluster(t, "node", database, nil)
	ports, err := local.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	s3, err := local.StartS3(t.Context(), t.TempDir(), ports[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s3.Kill)
	if err := s3.MakeBucket("backups"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	env := append(local.S3Env(), "AWS_ENDPOINT_URL="+s3.Endpoint, "ECP_SERVER="+servers(c))
	withDatabase := func(target string) []string { return append(env[:len(env):len(env)], "DATABASE_URL="+target) }
	back := func(more ...string) script {
		return script{name: "backup.sh", args: append([]string{"--to", dir, "--s3", "s3://backups/prod"}, more...), env: withDatabase(database)}
	}
	restore := func(target string, args ...string) script {
		return script{name: "restore.sh", args: args, env: withDatabase(target)}
	}

	back("--dry-run").must(t)
	if made, _ := os.ReadDir(dir); len(made) > 0 {
		t.Errorf("a dry run left %v", made)
	}
	ecpctl(t, c, "", "create", "fleet", "kept")
	local.Eventually(t, 20*time.Second, "the archive", func() error { return drained(t, c) })
	back().must(t)
	ecpctl(t, c, "", "create", "fleet", "undone")
	sets, err := filepath.Glob(filepath.Join(dir, "ecp-*"))
	if err != nil || len(sets) != 1 {
		t.Fatalf("sets %v, %v", sets, err)
	}
	has := func(when, want string) {
		t.Helper()
		var fleets wire.List[wire.Fleet]
		if err := json.Unmarshal([]byte(ecpctl(t, c, "", "--strong", "get", "fleets", "-o", "json")), &fleets); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range fleets.Items {
			names = append(names, f.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: fleets %q, want %q", when, got, want)
		}
	}
	remote := "s3://backups/prod/" + filepath.Base(sets[0])
	safety := t.TempDir()
	restore("", remote, "--state", "--dry-run", "--safety", safety).must(t)
	has("after a dry run", "kept undone")
	for range 2 {
		restore("", remote, "--state", "--yes", "--safety", safety).must(t)
		has("restored from the bucket", "kept")
		time.Sleep(time.Second) // the snapshot kept is named by the second
	}
	if code, out := restore(database, sets[0], "--archive", "--yes").run(t); code != 1 || !strings.Contains(out, "give an empty one") {
		t.Errorf("into a database in use: %d\n%s", code, out)
	}
	restore(empty, sets[0], "--archive", "--yes").must(t)
	conn, err := pgx.Connect(t.Context(), empty)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var events int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM fleet_events WHERE fleet = 'kept'").Scan(&events); err != nil || events != 1 {
		t.Errorf("the restored archive has %d events of the fleet, %v", events, err)
	}

	for range 2 {
		time.Sleep(time.Second)
		back("--keep", "2").must(t)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "ecp-*")); len(left) != 2 || left[0] == sets[0] {
		t.Errorf("--keep 2 left %v", left)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "ecp-*"))
	if err := os.WriteFile(filepath.Join(left[0], "state.snapshot"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := restore("", left[0], "--state", "--yes").run(t); code != 1 || !strings.Contains(out, "damaged") {
		t.Errorf("a damaged set: %d\n%s", code, out)
	}
}

// drained reports whether everything is in the archive.
func drained(t *testing.T, c *local.Cluster) error {
	var cl wire.Cluster
	if err := json.Unmarshal([]byte(ecpctl(t, c, "", "cluster", "-o", "json")), &cl); err != nil {
		return err
	}
	if cl.Archive.ArchivedSeq != cl.Archive.LastSeq {
		return fmt.Errorf("%+v", cl.Archive)
	}
	return nil
}

// TestSmokeTests: they pass on a whole cluster, leave nothing behind, and fail
// when a node is gone.
func TestSmokeTests(t *testing.T) {
	c := startCluster(t, "node", "", nil)
	smoke := func(args ...string) script {
		return script{name: "run-smoke-tests.sh", args: append([]string{"--server", servers(c)}, args...)}
	}
	if out := smoke("--dry-run").must(t); !strings.Contains(out, "would try") || !strings.Contains(out, "0 checks passed") {
		t.Errorf("dry run:\n%s", out)
	}
	for range 2 {
		if out := smoke().must(t); !strings.Contains(out, "25 checks passed") {
			t.Errorf("it says\n%s", out)
		}
	}
	if out := smoke("--read-only").must(t); !strings.Contains(out, "9 checks passed") {
		t.Errorf("read-only:\n%s", out)
	}
	if tenants := ecpctl(t, c, "", "get", "tenants", "-o", "json"); strings.Contains(tenants, "smoke") {
		t.Errorf("left behind: %s", tenants)
	}
	c.Nodes[1].Kill()
	if code, out := smoke().run(t); code != 1 || !strings.Contains(out, "FAILED: ") {
		t.Errorf("with a node gone: %d\n%s", code, out)
	}
}

// TestRollingUpdate: each node once, the leader last, with writes going on; it
// stops at one that does not come back.
func TestRollingUpdate(t *testing.T) {
	c := startCluster(t, "node", "", func(_ int, o *local.NodeOptions) { o.Args = []string{"--drain-time", "1s"} })
	leads := func() string {
		var cl wire.Cluster
		if err := json.Unmarshal([]byte(ecpctl(t, c, "", "cluster", "-o", "json")), &cl); err != nil {
			t.Fatal(err)
		}
		return cl.Leader
	}
	var updated []string
	broken := ""
	post := commands(t, func(node string, _ url.Values) error {
		for i, o := range c.Options {
			if o.ID != node {
				continue
			}
			updated = append(updated, node)
			ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
			defer cancel()
			if err := c.Nodes[i].Stop(ctx); err != nil {
				return err
			}
			if node == broken {
				return nil
			}
			return c.StartNode(i)
		}
		return errors.New("no such node")
	})
	update := script{
		name: "rolling-update.sh", args: []string{"--update", post + "{}", "--timeout", "60", "--backup", t.TempDir()},
		env: []string{"ECP_SERVER=" + servers(c)},
	}
	dry := update
	dry.args = append(dry.args[:len(dry.args):len(dry.args)], "--dry-run")
	if dry.must(t); len(updated) > 0 {
		t.Fatalf("a dry run updated %v", updated)
	}
	last := leads()
	update.must(t)
	if len(updated) != 3 || updated[2] != last {
		t.Errorf("updated %v, the leader was %s", updated, last)
	}

	updated, broken = nil, ""
	for _, o := range c.Options {
		if o.ID != leads() {
			broken = o.ID
			break
		}
	}
	update.args[3] = "5"
	if code, out := update.run(t); code != 1 || len(updated) != 1 || !strings.Contains(out, broken+" does not come back healthy") {
		t.Errorf("with %s broken: %d, updated %v\n%s", broken, code, updated, out)
	}
}
