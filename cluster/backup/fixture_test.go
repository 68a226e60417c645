package backup

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// leading is a Cluster that its node leads all the time.
type leading struct {
	mu    sync.Mutex
	state *fsm.State
}

// newLeading is of a cluster with a name and a few tenants.
func newLeading(t testing.TB, name string, tenants int) *leading {
	t.Helper()
	l := &leading{state: fsm.New()}
	l.apply(t, &fsmpb.Command{By: "cluster", Op: &fsmpb.Command_InitCluster{InitCluster: &fsmpb.InitCluster{
		Identity: &fsmpb.Identity{ClusterId: name, Epoch: "e1"}, FeatureLevel: fsm.SupportedLevel,
	}}})
	for i := range tenants {
		l.put(t, fmt.Sprintf("tenant-%d", i))
	}
	return l
}

func (l *leading) apply(t testing.TB, c *fsmpb.Command) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	next, results, _ := l.state.Apply(l.state.Index()+1, &fsmpb.Entry{Stamp: int64(l.state.Index() + 1), Commands: []*fsmpb.Command{c}})
	if err := fsm.ResultError(results[0]); err != nil {
		t.Fatal(err)
	}
	l.state = next
}

func (l *leading) put(t testing.TB, tenant string) {
	t.Helper()
	l.apply(t, &fsmpb.Command{By: "test", Op: &fsmpb.Command_PutTenant{PutTenant: &fsmpb.PutTenant{Name: tenant}}})
}

func (l *leading) State() *fsm.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

func (l *leading) WhileLeading(ctx context.Context, do func(context.Context, uint64) error) error {
	return do(ctx, 1)
}

// newKeeper keeps the backups of a cluster in a target.
func newKeeper(t testing.TB, to Target, c Cluster, change func(*Config)) *Keeper {
	t.Helper()
	cfg := Config{Target: to, Every: time.Hour, Keep: 30}
	if change != nil {
		change(&cfg)
	}
	w := io.Discard
	if os.Getenv("BACKUP_TEST_LOG") != "" {
		w = os.Stderr
	}
	return New(cfg, Deps{Log: slog.New(slog.NewTextHandler(w, nil)), Registry: prometheus.NewRegistry(), Cluster: c})
}

// runs runs a keeper until the returned function is called.
func runs(t testing.TB, k *Keeper) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// names lists what is in a directory.
func names(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// madeAt lists when the backups of a cluster were made that are in a directory.
func madeAt(t testing.TB, dir, cluster string) []string {
	t.Helper()
	var out []string
	for _, name := range names(t, dir) {
		if b, ok := parse(name); ok && b.Cluster == cluster {
			out = append(out, b.At.Format("15:04:05"))
		}
	}
	slices.Sort(out)
	return out
}

// stored puts a backup of a state into a directory, as if made at a time.
func stored(t testing.TB, dir string, st *fsm.State, at time.Time) string {
	t.Helper()
	sum, _, err := st.Measure()
	if err != nil {
		t.Fatal(err)
	}
	name := nameOf(st.Identity().GetClusterId(), at, st.Index(), sum)
	var b strings.Builder
	if err := st.WriteSnapshot(&b); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, name), b.String())
	return name
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func equal(t testing.TB, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
