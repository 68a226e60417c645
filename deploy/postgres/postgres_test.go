// Package postgres_test starts real servers with the files of this folder.
package postgres_test

import (
	"context"
	"errors"
	"fmt"
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

// named are the settings that a file has.
func named(t *testing.T, file string) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, m := range setting.FindAllStringSubmatch(string(raw), -1) {
		found[m[1]] = m[2]
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
			tuned := named(t, sql)
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
			inFiles := len(named(t, conf)) + len(named(t, "postgresql-common.conf"))
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

// TestReplica: the scripts make a primary and a replica that follows it and
// takes its place when promoted; the primary archives its WAL.
func TestReplica(t *testing.T) {
	basebackup, err := local.FindDebian(t.Context(), "pg_basebackup", "postgresql")
	if err != nil {
		t.Fatal(err)
	}
	dir := folder(t, "archive-wal.sh", "make-replica.sh", "pg_hba.conf")
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "wal"), 0o777), os.Chmod(filepath.Join(dir, "wal"), 0o777)); err != nil {
		t.Fatal(err)
	}
	primary := start(t, map[string]string{
		"hba_file": filepath.Join(dir, "pg_hba.conf"), "archive_mode": "on", "wal_level": "replica",
		"archive_command": "WAL_ARCHIVE=" + dir + "/wal " + dir + `/archive-wal.sh "%p" "%f"`,
	}, "")
	env := append(environment(t, primary), "PATH="+filepath.Dir(basebackup)+":"+os.Getenv("PATH"))
	for range 2 { // the second changes nothing
		run(t, env, "./make-primary.sh", "replica_1", "replica_2")
	}
	conn := connect(t, primary.URL)
	if slots := rows(t, conn, "SELECT slot_name::text FROM pg_replication_slots ORDER BY 1"); !slices.Equal(slots, []string{"replica_1", "replica_2"}) {
		t.Errorf("slots %v", slots)
	}

	replica := startReplica(t, dir, env, primary.Port)
	if _, err := conn.Exec(t.Context(), "CREATE TABLE said (what text); INSERT INTO said VALUES ('hello'); SELECT pg_switch_wal()"); err != nil {
		t.Fatal(err)
	}
	follower := connect(t, replica)
	local.Eventually(t, 20*time.Second, "the row on the replica", func() error {
		var what string
		return follower.QueryRow(t.Context(), "SELECT what FROM said").Scan(&what)
	})
	local.Eventually(t, 20*time.Second, "an archived segment", func() error {
		archived := rows(t, conn, "SELECT last_archived_wal FROM pg_stat_archiver WHERE failed_count = 0 AND last_archived_wal IS NOT NULL")
		if len(archived) != 1 {
			return errors.New("none yet")
		}
		_, err := os.Stat(filepath.Join(dir, "wal", archived[0]))
		return err
	})
	primary.Kill()
	if _, err := follower.Exec(t.Context(), "SELECT pg_promote()"); err != nil {
		t.Fatal(err)
	}
	if _, err := follower.Exec(t.Context(), "INSERT INTO said VALUES ('alone')"); err != nil {
		t.Errorf("a write to the promoted replica: %v", err)
	}
}

// startReplica returns the URL of a server that follows the primary.
func startReplica(t *testing.T, dir string, env []string, primary int) string {
	t.Helper()
	ports, err := local.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "replica")
	postgres, err := local.FindDebian(t.Context(), "postgres", "postgresql")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{
		filepath.Join(dir, "make-replica.sh"), data, "127.0.0.1", strconv.Itoa(primary), "replica_1", "--",
		postgres, "-D", data, "-c", "port=" + strconv.Itoa(ports[0]), "-c", "unix_socket_directories=",
		"-c", "max_connections=200", "-c", "listen_addresses=127.0.0.1", "-c", "hba_file=" + filepath.Join(dir, "pg_hba.conf"),
	}
	if os.Geteuid() == 0 {
		args = append([]string{"setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"}, args...)
	}
	u := url.URL{Scheme: "postgres", Host: local.Loopback(ports[0]), Path: "ecp", RawQuery: "sslmode=disable"}
	for _, variable := range env {
		if password, ok := strings.CutPrefix(variable, "PGPASSWORD="); ok {
			u.User = url.UserPassword("postgres", password)
		}
	}
	program, err := exec.LookPath(args[0])
	if err != nil {
		t.Fatal(err)
	}
	p, err := local.StartProgram(t.Context(), local.ProgramOptions{
		Path: program, Args: args[1:], Dir: folder(t), Env: env,
		Ready: func(ctx context.Context) bool {
			conn, err := pgx.Connect(ctx, u.String())
			return err == nil && conn.Close(ctx) == nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return u.String()
}

// TestArchiveKeepsSegments: one that is there is never overwritten.
func TestArchiveKeepsSegments(t *testing.T) {
	dir := t.TempDir()
	archive := filepath.Join(dir, "archive")
	if err := os.Mkdir(archive, 0o700); err != nil {
		t.Fatal(err)
	}
	segment := filepath.Join(dir, "segment")
	try := func(content string) error {
		if err := os.WriteFile(segment, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "./archive-wal.sh", segment, "000000010000000000000001")
		cmd.Env = append(os.Environ(), "WAL_ARCHIVE="+archive)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	if err := errors.Join(try("one"), try("one")); err != nil {
		t.Error(err)
	}
	if err := try("another"); err == nil || !strings.Contains(err.Error(), "exists and differs") {
		t.Errorf("another segment under the same name: %v", err)
	}
	if kept, err := os.ReadFile(filepath.Join(archive, "000000010000000000000001")); err != nil || string(kept) != "one" {
		t.Errorf("the archive has %q, %v", kept, err)
	}
}
