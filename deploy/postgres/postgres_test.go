// Package postgres_test starts real servers with the files of this folder.
package postgres_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/org/envoy-control-plane/deploy/local"
)

// folder returns a new folder that the user who runs Postgres reaches, with
// copies of files of this one.
func folder(t *testing.T, files ...string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "ecp-postgres-test-") //nolint:usetesting // another user has to reach it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	err = os.Chmod(dir, 0o777)
	for _, name := range files {
		raw, readErr := os.ReadFile(name)
		to := filepath.Join(dir, name)
		err = errors.Join(err, readErr, os.WriteFile(to, raw, 0o600), os.Chmod(to, 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func start(t *testing.T, settings map[string]string, dir string) *local.Postgres {
	t.Helper()
	p, err := local.StartPostgres(t.Context(), local.PostgresOptions{NoSync: true, Settings: settings, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, p) })
	return p
}

func stop(t *testing.T, p *local.Postgres) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := p.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func connect(t *testing.T, target string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// rows returns the rows of a query as text.
func rows(t *testing.T, conn *pgx.Conn, sql string, args ...any) []string {
	t.Helper()
	result, err := conn.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	found, err := pgx.CollectRows(result, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return found
}

var setting = regexp.MustCompile(`(?m)^(?:ALTER SYSTEM SET )?(\w+) = '?([^'\n;]*)`)

// named are the settings that files have.
func named(t *testing.T, files ...string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range setting.FindAllStringSubmatch(string(raw), -1) {
			found[m[1]] = m[2]
		}
	}
	return found
}

// TestConfigurations: a server starts with each configuration and takes all of
// it; the SQL makes the same of a server that is there already.
func TestConfigurations(t *testing.T) {
	for _, size := range []string{"4gb", "16gb"} {
		t.Run(size, func(t *testing.T) {
			conf, sql := "postgresql-"+size+".conf", "tuning-"+size+".sql"
			dir := folder(t, conf, "postgresql-common.conf", "pg_hba.conf", "archive-wal.sh")
			tuned := named(t, sql, "tuning-common.sql")
			// What the command line of tests says is not the file's.
			const theirs = `('listen_addresses', 'hba_file', 'archive_command', 'max_connections')`
			p := start(t, map[string]string{
				"config_file": filepath.Join(dir, conf), "hba_file": filepath.Join(dir, "pg_hba.conf"),
				"archive_command": "true", "max_connections": tuned["max_connections"],
			}, "")
			conn := connect(t, p.URL)
			if wrong := rows(t, conn, `SELECT name || ': ' || coalesce(error, 'not applied') FROM pg_file_settings
				WHERE (error IS NOT NULL OR NOT applied) AND name NOT IN `+theirs); len(wrong) > 0 {
				t.Errorf("the file has what the server does not take:\n%s", strings.Join(wrong, "\n"))
			}
			if wrong := rows(t, conn, `SELECT line_number || ': ' || error FROM pg_hba_file_rules WHERE error IS NOT NULL`); len(wrong) > 0 {
				t.Errorf("pg_hba.conf: %v", wrong)
			}
			if n := len(rows(t, conn, `SELECT type FROM pg_hba_file_rules`)); n != 7 {
				t.Errorf("pg_hba.conf has %d rules, want 7", n)
			}
			names := slices.Collect(func(yield func(string) bool) {
				for name := range tuned {
					if !yield(name) {
						return
					}
				}
			})
			const effective = `SELECT name || ' = ' || setting FROM pg_settings WHERE name = ANY($1) ORDER BY name`
			want := rows(t, conn, effective, names)
			if len(want) != len(names) {
				t.Errorf("%s sets %d, the server knows %d of them", sql, len(names), len(want))
			}
			inFiles := len(named(t, conf, "postgresql-common.conf"))
			if left := inFiles - len(names); left != 5 {
				t.Errorf("%s leaves out %d of the configuration's settings, want 5: access and archiving", sql, left)
			}
			stop(t, p)

			home := folder(t)
			again := start(t, nil, home)
			runPsql(t, again, "-f", sql)
			stop(t, again)
			again = start(t, map[string]string{"max_connections": tuned["max_connections"]}, home)
			if got := rows(t, connect(t, again.URL), effective, names); !slices.Equal(got, want) {
				t.Errorf("%s makes\n%s\n%s makes\n%s", sql, strings.Join(got, "\n"), conf, strings.Join(want, "\n"))
			}
		})
	}
}

// environment is how psql reaches a server, as its superuser.
func environment(t *testing.T, p *local.Postgres) []string {
	t.Helper()
	u, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	return append(os.Environ(), "PGHOST=127.0.0.1", "PGPORT="+strconv.Itoa(p.Port), "PGUSER=postgres", "PGDATABASE=ecp",
		"PGPASSWORD="+password, "REPLICATION_PASSWORD=it's secret")
}

func runPsql(t *testing.T, p *local.Postgres, args ...string) {
	t.Helper()
	psql, err := local.FindDebian(t.Context(), "psql", "postgresql-client")
	if err != nil {
		t.Fatal(err)
	}
	run(t, environment(t, p), psql, append([]string{"-v", "ON_ERROR_STOP=1", "-q"}, args...)...)
}

func run(t *testing.T, env []string, path string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", filepath.Base(path), err, out)
	}
	return string(out)
}
