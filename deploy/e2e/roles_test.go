package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/deploy/bootstrap"
	"github.com/org/envoy-control-plane/deploy/local"
)

// roles are the users of a database that roles.sql was run on.
type roles struct {
	t *testing.T
	// admin is the server's; owner, writer and reader are the database's.
	admin, owner, writer, reader string
}

// newRoles makes a database, its owner, the archive's tables and the other two.
func newRoles(t *testing.T) *roles {
	t.Helper()
	suffix := strings.ToLower(rand.Text()[:8])
	names := []string{"owner_" + suffix, "writer_" + suffix, "reader_" + suffix}
	r := &roles{t: t}
	t.Cleanup(func() { // after the database is gone
		conn, err := pgx.Connect(context.Background(), as(t, r.admin, nil, "postgres"))
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(context.Background())
		for _, name := range names {
			if _, err := conn.Exec(context.Background(), "DROP ROLE IF EXISTS "+name); err != nil {
				t.Error(err)
			}
		}
	})
	r.admin = local.TestDatabase(t)
	parsed, err := url.Parse(r.admin)
	if err != nil {
		t.Fatal(err)
	}
	database := strings.TrimPrefix(parsed.Path, "/")
	r.run(r.admin, "CREATE ROLE "+names[0]+" LOGIN CREATEROLE PASSWORD 'o'")
	r.run(r.admin, "ALTER DATABASE "+database+" OWNER TO "+names[0])
	r.owner = as(t, r.admin, url.UserPassword(names[0], "o"), database)
	r.writer = as(t, r.admin, url.UserPassword(names[1], "it's w"), database)
	r.reader = as(t, r.admin, url.UserPassword(names[2], "r"), database)
	migrate := exec.CommandContext(t.Context(), filepath.Join(bin, "envoy-control-plane"), "migrate", "--database-url", r.owner)
	if out, err := migrate.CombinedOutput(); err != nil {
		t.Fatalf("migrate: %v\n%s", err, out)
	}
	program, err := local.FindDebian(t.Context(), "psql", "postgresql-client")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time nothing is left to do
		psql := exec.CommandContext(t.Context(), program, r.owner,
			"-v", "writer="+names[1], "-v", "reader="+names[2], "-f", "../postgres/roles.sql")
		psql.Env = append(os.Environ(), "ECP_WRITER_PASSWORD=it's w", "ECP_READER_PASSWORD=r")
		if out, err := psql.CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("roles.sql: %v\n%s", err, out)
		}
	}
	return r
}

// as is a URL with another user and database.
func as(t *testing.T, admin string, user *url.Userinfo, database string) string {
	t.Helper()
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatal(err)
	}
	if user != nil {
		u.User = user
	}
	u.Path = "/" + database
	return u.String()
}

func (r *roles) connect(as string) *pgx.Conn {
	r.t.Helper()
	conn, err := pgx.Connect(r.t.Context(), as)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (r *roles) run(as, sql string) {
	r.t.Helper()
	if _, err := r.connect(as).Exec(r.t.Context(), sql); err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
}

// refuses demands that a user may not do something.
func (r *roles) refuses(as, want string, statements ...string) {
	r.t.Helper()
	conn := r.connect(as)
	for _, sql := range statements {
		if _, err := conn.Exec(r.t.Context(), sql); err == nil || !strings.Contains(err.Error(), want) {
			r.t.Errorf("%s: %v, want %q", sql, err, want)
		}
	}
}

// TestLeastPrivilege: nodes write as one user and read as another. Everything works
// that nodes do, months come and go, and neither can touch history.
func TestLeastPrivilege(t *testing.T) {
	r := newRoles(t)
	r.run(r.writer, `SELECT archive_make_partition('fleet_events', '2020-01-01T00:00:00Z')`)
	c := newCluster(t, 1, r.writer, "--archive-retention", "8760h", "--proxy-grace", "100ms")
	c.options[0].Env = []string{"DATABASE_READ_URL=" + r.reader}
	c.start()
	w := &writer{c: c}
	for range 20 {
		if err := w.write(0); err != nil {
			t.Fatal(err)
		}
	}
	fleet := fleetYAML(t, freePorts(t, 1)[0], startUpstream(t, "up"))
	c.ecpctl(0, fleet, "apply", "-f", "-", "--fleet", "edge")
	// Rows that are changed and deleted: of a proxy that comes, converges and goes.
	envoy := c.startEnvoy(bootstrap.Options{Proxy: "p1", Fleet: "edge"})
	c.reported(r.owner, "SELECT count(*) FROM proxy_status WHERE connected")
	c.ecpctl(0, strings.ReplaceAll(fleet, "timeout: 15s", "timeout: 16s"), "apply", "-f", "-", "--fleet", "edge", "--wait=20s")
	c.reported(r.owner, "SELECT count(*) FROM revision_convergence WHERE synced = 1")
	if err := envoy.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.reported(r.owner, "SELECT count(*) FROM proxy_status WHERE NOT connected")
	if status, answer, err := send(http.MethodDelete, c.urls[0]+"/api/v1/tenants/default/proxies/p1", ""); err != nil || status != http.StatusOK {
		t.Fatalf("delete the proxy: %d %s, %v", status, answer, err)
	}
	c.reported(r.owner, "SELECT count(*) FROM fleet_events WHERE kind = 'proxy_deleted' AND NOT EXISTS (SELECT FROM envoy_proxies UNION ALL SELECT FROM proxy_status)")
	to, err := client.New(client.Options{Servers: c.urls})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	var is *wire.Archive
	eventually(t, 30*time.Second, "all is stored, reported on, and a month dropped", func() error {
		if is, err = to.Archive(t.Context()); err != nil {
			return err
		}
		if is.Database == nil || is.Database.Cursor == nil || is.Database.Cursor.Seq != is.LastSeq || is.Database.ReportsAsOf == nil {
			return fmt.Errorf("%+v", is)
		}
		if first := is.Database.Tables[0].Partitions[0].Name; first == "fleet_events_2020_01" {
			return errors.New("the month is there")
		}
		return nil
	})
	if is.LastError != nil || len(is.Alarms) > 0 || is.NextMade == nil || is.NextDropped == nil {
		t.Errorf("%+v", is)
	}
	c.archivedOnce()
	report, err := to.ReportChanges(t.Context(), client.ReportQuery{})
	if err != nil || len(report.Items) < 20 {
		t.Errorf("%+v, %v", report, err)
	}

	const denied, owns = "permission denied", "must be owner"
	r.refuses(r.writer, denied,
		`UPDATE fleet_events SET by = 'nobody'`, `DELETE FROM fleet_events`, `TRUNCATE fleet_events`,
		`DELETE FROM fleet_events_default`, `UPDATE fleet_revisions SET message = ''`, `DELETE FROM fleet_revision_resources`,
		`DELETE FROM endpoint_changes`, `DELETE FROM archive_gaps`, `UPDATE archive_epochs SET first_seq = 9`, `DELETE FROM archive_cursor`,
		`DELETE FROM fleet_days`, `UPDATE archive_policy SET min_retention = '0'`, `INSERT INTO schema_migrations VALUES (99, 'x', 'x')`,
		`CREATE TABLE mine (n int)`, `CREATE ROLE mine`,
	)
	r.refuses(r.writer, owns, `DROP TABLE fleet_events`, `ALTER TABLE fleet_events DETACH PARTITION fleet_events_default`)
	r.run(r.owner, `UPDATE archive_policy SET min_retention = '10 years'`)
	r.run(r.writer, `SELECT archive_make_partition('fleet_events', '2024-01-01T00:00:00Z')`)
	r.refuses(r.writer, "is kept", `SELECT archive_drop_partition('fleet_events', '2024-01-01T00:00:00Z')`)
	r.refuses(r.reader, denied,
		`INSERT INTO archive_gaps VALUES ('c', 'e', 1, 1, 'n')`, `UPDATE archive_cursor SET seq = 0`, `DELETE FROM fleet_events`,
		`SELECT archive_make_partition('fleet_events', '2020-01-01T00:00:00Z')`, `CREATE TABLE mine (n int)`,
	)
	r.run(r.reader, `SELECT count(*) FROM fleet_events_2024_01`) // also what came later
}

// reported waits until a count is 1.
func (c *cluster) reported(url, sql string) {
	c.t.Helper()
	conn, err := pgx.Connect(c.t.Context(), url)
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	eventually(c.t, 30*time.Second, sql, func() error {
		n := 0
		if err := conn.QueryRow(c.t.Context(), sql).Scan(&n); err != nil || n == 1 {
			return err
		}
		return fmt.Errorf("%d", n)
	})
}

// TestWriterMayNotMigrate: a node that may not bring the tables up to date says what
// to do, and goes on as soon as it is done.
func TestWriterMayNotMigrate(t *testing.T) {
	r := newRoles(t)
	const newest = ` WHERE version = (SELECT max(version) FROM schema_migrations)`
	r.run(r.owner, `UPDATE schema_migrations SET version = version + 1000`+newest)
	c := startCluster(t, 1, r.writer)
	to, err := client.New(client.Options{Servers: c.urls})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	eventually(t, 20*time.Second, "it says so", func() error {
		is, err := to.Archive(t.Context())
		if err == nil && (is.State != wire.ArchiveDown || !strings.Contains(is.Reason, "run envoy-control-plane migrate as its owner")) {
			err = fmt.Errorf("%+v", is)
		}
		return err
	})
	r.run(r.owner, `UPDATE schema_migrations SET version = version - 1000`+newest)
	c.archivedOnce()
}
