package local_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/org/envoy-control-plane/deploy/local"
)

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func TestPostgresKeepsItsDataOverARestart(t *testing.T) {
	// Root's folders are closed to the user that Postgres runs as: then a
	// stand-in has to keep the data.
	dir := filepath.Join(t.TempDir(), "db")
	p, err := local.StartPostgres(t.Context(), local.PostgresOptions{Dir: dir, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(p.Dir) })
	if _, err := connect(t, p.URL).Exec(t.Context(), "CREATE TABLE kept AS SELECT 7 AS n"); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	p, err = local.StartPostgres(t.Context(), local.PostgresOptions{Dir: dir, Port: p.Port})
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := connect(t, p.URL).QueryRow(t.Context(), "SELECT n FROM kept").Scan(&n); err != nil || n != 7 {
		t.Fatalf("kept %d, %v; want 7", n, err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatalf("a second stop: %v", err)
	}
}

func TestStandbyFollowsAndIsPromoted(t *testing.T) {
	start := func(o local.PostgresOptions) *local.Postgres {
		p, err := local.StartPostgres(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Kill(); _ = os.RemoveAll(p.Dir) })
		return p
	}
	ctx, dir := t.Context(), t.TempDir()
	primary := start(local.PostgresOptions{Dir: filepath.Join(dir, "one"), NoSync: true})
	if err := local.CopyPostgres(ctx, primary, filepath.Join(dir, "two")); err == nil {
		t.Fatal("a running server was copied")
	}
	if err := primary.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if err := local.CopyPostgres(ctx, primary, filepath.Join(dir, "two")); err != nil {
		t.Fatal(err)
	}
	primary = start(local.PostgresOptions{Dir: filepath.Join(dir, "one"), Port: primary.Port, NoSync: true})
	standby := start(local.PostgresOptions{Dir: filepath.Join(dir, "two"), Follow: primary.URL, NoSync: true})
	if _, err := connect(t, primary.URL).Exec(ctx, "CREATE TABLE kept AS SELECT 7 AS n"); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, standby.URL)
	n := 0
	for end := time.Now().Add(15 * time.Second); n != 7; time.Sleep(20 * time.Millisecond) {
		if err := conn.QueryRow(ctx, "SELECT n FROM kept").Scan(&n); err != nil && time.Now().After(end) {
			t.Fatal(err)
		}
	}
	if _, err := conn.Exec(ctx, "INSERT INTO kept VALUES (8)"); err == nil {
		t.Fatal("a standby was written to")
	}
	primary.Kill()
	if err := standby.Promote(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(ctx, "INSERT INTO kept VALUES (8)"); err != nil {
		t.Fatal(err)
	}
}

func TestPostgresEndsWithItsStarter(t *testing.T) {
	if os.Getenv("ECP_TEST_STARTER") != "" {
		p, err := local.StartPostgres(t.Context(), local.PostgresOptions{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(os.Getenv("ECP_TEST_STARTER"), []byte(p.Dir), 0o600); err != nil {
			t.Fatal(err)
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	file := filepath.Join(t.TempDir(), "dir")
	cmd := exec.Command(os.Args[0], "-test.run=^TestPostgresEndsWithItsStarter$")
	cmd.Env = append(os.Environ(), "ECP_TEST_STARTER="+file)
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("the starter was not killed: %v\n%s", err, out)
	}
	dir, err := os.ReadFile(file)
	if err != nil || len(dir) == 0 {
		t.Fatalf("no folder noted: %v\n%s", err, out)
	}
	// The watcher removes the folder once the server has ended.
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(string(dir)); errors.Is(err, os.ErrNotExist) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s is still there", dir)
		}
	}
}

func TestTestDatabasesAreApart(t *testing.T) {
	a, b := local.TestDatabase(t), local.TestDatabase(t)
	if _, err := connect(t, a).Exec(t.Context(), "CREATE TABLE mine (n int)"); err != nil {
		t.Fatal(err)
	}
	if _, err := connect(t, b).Exec(t.Context(), "CREATE TABLE mine (n int)"); err != nil {
		t.Fatal(err)
	}
}

func TestTestDatabaseIsDropped(t *testing.T) {
	var url string
	t.Run("uses one", func(t *testing.T) {
		url = local.TestDatabase(t)
		connect(t, url)
	})
	if conn, err := pgx.Connect(t.Context(), url); err == nil {
		_ = conn.Close(t.Context())
		t.Fatal("the database is still there")
	}
}
