package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/org/envoy-control-plane/deploy/local"
)

// TestReplica: the scripts make a primary and a replica that follows it and
// takes its place when promoted; the primary archives its WAL.
func TestReplica(t *testing.T) {
	primary, dir, env := startPrimary(t)
	conn := connect(t, primary.URL)
	if slots := rows(t, conn, "SELECT slot_name::text FROM pg_replication_slots ORDER BY 1"); !slices.Equal(slots, []string{"replica_1", "replica_2"}) {
		t.Errorf("slots %v", slots)
	}

	data := filepath.Join(dir, "replica")
	// As the image makes a volume: everybody's.
	made := asPostgres("install", "-d", "-m", "1777", data)
	if out, err := exec.CommandContext(t.Context(), made[0], made[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	replica := startOn(t, dir, data, env, filepath.Join(dir, "make-replica.sh"), data, "127.0.0.1", strconv.Itoa(primary.Port), "replica_1", "--")
	if _, err := conn.Exec(t.Context(), "CREATE TABLE said (what text); INSERT INTO said VALUES ('hello')"); err != nil {
		t.Fatal(err)
	}
	follower := connect(t, replica)
	local.Eventually(t, 20*time.Second, "the row on the replica", func() error {
		var what string
		return follower.QueryRow(t.Context(), "SELECT what FROM said").Scan(&what)
	})
	awaitArchived(t, conn, dir)
	primary.Kill()
	if _, err := follower.Exec(t.Context(), "SELECT pg_promote()"); err != nil {
		t.Fatal(err)
	}
	if _, err := follower.Exec(t.Context(), "INSERT INTO said VALUES ('alone')"); err != nil {
		t.Errorf("a write to the promoted replica: %v", err)
	}
}

// startPrimary runs one that archives its WAL to the folder "wal" of dir, with a
// replica's slots, and returns how programs reach it.
func startPrimary(t *testing.T) (p *local.Postgres, dir string, env []string) {
	t.Helper()
	basebackup, err := local.FindDebian(t.Context(), "pg_basebackup", "postgresql")
	if err != nil {
		t.Fatal(err)
	}
	dir = folder(t, "archive-wal.sh", "make-replica.sh", "pg_hba.conf")
	wal := filepath.Join(dir, "wal")
	if err := errors.Join(os.Mkdir(wal, 0o700), os.Chmod(wal, 0o777)); err != nil {
		t.Fatal(err)
	}
	p = start(t, map[string]string{
		"hba_file": filepath.Join(dir, "pg_hba.conf"), "archive_mode": "on", "wal_level": "replica",
		"archive_command": "WAL_ARCHIVE=" + wal + " " + dir + `/archive-wal.sh "%p" "%f"`,
	}, "")
	env = append(environment(t, p), "PATH="+filepath.Dir(basebackup)+":"+os.Getenv("PATH"))
	for range 2 { // the second changes nothing
		run(t, env, "./make-primary.sh", "replica_1", "replica_2")
	}
	return p, dir, env
}

// asPostgres is a command line of the user who runs Postgres.
func asPostgres(args ...string) []string {
	if os.Geteuid() != 0 {
		return args
	}
	return append([]string{"setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"}, args...)
}

// startOn returns the URL of a server on a data folder, which the program
// before it may make.
func startOn(t *testing.T, dir, data string, env []string, before ...string) string {
	t.Helper()
	ports, err := local.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	postgres, err := local.FindDebian(t.Context(), "postgres", "postgresql")
	if err != nil {
		t.Fatal(err)
	}
	args := asPostgres(append(before,
		postgres, "-D", data, "-c", "port="+strconv.Itoa(ports[0]), "-c", "unix_socket_directories=",
		"-c", "max_connections=200", "-c", "listen_addresses=127.0.0.1", "-c", "hba_file="+filepath.Join(dir, "pg_hba.conf"))...)
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

// awaitArchived switches to a new WAL segment and waits until the old one is in
// the archive.
func awaitArchived(t *testing.T, conn *pgx.Conn, dir string) {
	t.Helper()
	segment := rows(t, conn, "SELECT pg_walfile_name(pg_switch_wal())")[0]
	local.Eventually(t, 20*time.Second, "an archived segment", func() error {
		if failed := rows(t, conn, "SELECT last_failed_wal FROM pg_stat_archiver WHERE failed_count > 0"); len(failed) > 0 {
			return fmt.Errorf("%s could not be archived", failed[0])
		}
		_, err := os.Stat(filepath.Join(dir, "wal", segment))
		return err
	})
}

// TestPointInTimeRecovery: a base backup and the archive of segments make what
// was there at a moment, and nothing of later.
func TestPointInTimeRecovery(t *testing.T) {
	primary, dir, env := startPrimary(t)
	base := filepath.Join(dir, "base")
	args := asPostgres("pg_basebackup", "-D", base, "-X", "none", "--checkpoint=fast", "--no-password", "-U", "replicator")
	run(t, append(env, "PGPASSWORD=it's secret"), args[0], args[1:]...)
	conn := connect(t, primary.URL)
	perform := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	perform("CREATE TABLE said (what text); INSERT INTO said VALUES ('wanted')")
	moment := rows(t, conn, "SELECT clock_timestamp()::text")[0]
	perform("INSERT INTO said VALUES ('a mistake')")
	awaitArchived(t, conn, dir)
	recovery := fmt.Sprintf("restore_command = 'cp %s/wal/%%f %%p'\nrecovery_target_time = '%s'\nrecovery_target_action = 'promote'\n", dir, moment)
	signal := filepath.Join(base, "recovery.signal")
	settings, err := os.OpenFile(filepath.Join(base, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = settings.WriteString(recovery)
		err = errors.Join(err, settings.Close(), os.WriteFile(signal, nil, 0o600), os.Chmod(signal, 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	recovered := connect(t, startOn(t, dir, base, env))
	local.Eventually(t, 20*time.Second, "the recovery", func() error {
		if still := rows(t, recovered, "SELECT 'yes' WHERE pg_is_in_recovery()"); len(still) > 0 {
			return errors.New("it goes on")
		}
		return nil
	})
	if said := rows(t, recovered, "SELECT what FROM said"); !slices.Equal(said, []string{"wanted"}) {
		t.Errorf("recovered %q", said)
	}
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
