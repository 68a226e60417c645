package migrations_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/org/envoy-control-plane/deploy/local"
	"github.com/org/envoy-control-plane/migrations"
)

const insertEvent = `INSERT INTO fleet_events VALUES ('c', 'e', 1, 't', 1, 1, now(), 'f', 'fleet_put', 'ann', '{}')`

// indexed are the indexes that the fourth migration adds to tables that are
// written to, and of how many tables each is valid.
const indexed = `SELECT string_agg(n || ' ' || (SELECT count(*) FROM pg_index x WHERE x.indisvalid AND x.indisready
		AND (x.indexrelid = n::regclass OR x.indexrelid IN (SELECT relid FROM pg_partition_tree(n::regclass)))), ', ' ORDER BY n)
	FROM unnest(ARRAY['idx_fleet_events_changes', 'idx_fleet_events_fleet_changes', 'idx_fleet_revisions_at', 'idx_fleet_revisions_fleet_at']) n`

const allIndexed = "idx_fleet_events_changes 3, idx_fleet_events_fleet_changes 3, idx_fleet_revisions_at 1, idx_fleet_revisions_fleet_at 1"

// before is a database as the release before reports has it, with a month.
func before(t *testing.T) (url string, conn *pgx.Conn) {
	t.Helper()
	url = local.TestDatabase(t)
	conn = connect(t, url)
	if _, err := migrations.ApplyThrough(t.Context(), conn, 3); err != nil {
		t.Fatal(err)
	}
	run(t, conn, `CREATE TABLE fleet_events_2020_01 PARTITION OF fleet_events FOR VALUES FROM ('2020-01-01') TO ('2020-02-01')`)
	run(t, conn, insertEvent)
	return url, conn
}

func run(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func wantText(t *testing.T, conn *pgx.Conn, want, sql string) {
	t.Helper()
	var got string
	if err := conn.QueryRow(t.Context(), sql).Scan(&got); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if got != want {
		t.Fatalf("%s\n got %s\nwant %s", sql, got, want)
	}
}

// Nodes of the release before write all the time. One of them keeps a transaction
// open for as long as it likes: the migration waits for it, the others do not.
func TestWritersGoOnMeanwhile(t *testing.T) {
	url, conn := before(t)
	slow, err := connect(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := slow.Exec(t.Context(), insertEvent); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	migrating := connect(t, url)
	go func() {
		_, err := migrations.Apply(context.WithoutCancel(t.Context()), migrating)
		done <- err
	}()
	var longest time.Duration
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); {
		started := time.Now()
		run(t, conn, insertEvent)
		longest = max(longest, time.Since(started))
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("a write took %s at most", longest)
	if longest > 2*time.Second {
		t.Errorf("a write waited for %s", longest)
	}
	select {
	case err := <-done:
		t.Fatalf("migrated beside an open transaction: %v", err)
	default:
	}
	if err := slow.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wantText(t, conn, allIndexed, indexed)
}

// A build that ended halfway is taken up, also an index that is there and of no
// use.
func TestBuildThatEndedHalfway(t *testing.T) {
	_, conn := before(t)
	run(t, conn, insertEvent)
	run(t, conn, `CREATE INDEX idx_fleet_events_changes ON ONLY fleet_events (cluster, epoch, tenant, at, seq)
		WHERE kind NOT IN ('proxy_connected', 'proxy_disconnected', 'proxy_rejected', 'proxy_recovered',
			'proxy_deleted', 'proxy_collapsed', 'convergence_recorded')`)
	if _, err := conn.Exec(t.Context(), `CREATE UNIQUE INDEX CONCURRENTLY idx_fleet_events_changes_default ON fleet_events_default (cluster)`); err == nil {
		t.Fatal("two rows of a cluster are unique")
	}
	wantText(t, conn, "false", `SELECT indisvalid::text FROM pg_index WHERE indexrelid = 'idx_fleet_events_changes_default'::regclass`)
	if _, err := migrations.Apply(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	wantText(t, conn, allIndexed, indexed)
	// Months to come have it, too.
	run(t, conn, `SELECT archive_make_partition('fleet_events', '2020-03-01T00:00:00Z')`)
	wantText(t, conn, "4", `SELECT count(*)::text FROM pg_partition_tree('idx_fleet_events_changes')`)
}

// Two that migrate at once do not undo each other's indexes.
func TestBuildAtOnce(t *testing.T) {
	url, conn := before(t)
	done := make(chan error, 3)
	for range cap(done) {
		other := connect(t, url)
		go func() {
			_, err := migrations.Apply(context.WithoutCancel(t.Context()), other)
			done <- err
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	wantText(t, conn, allIndexed, indexed)
}
