package migrations_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/org/envoy-control-plane/deploy/local"
	"github.com/org/envoy-control-plane/migrations"
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

func TestApplyTwiceAndAtOnce(t *testing.T) {
	url := local.TestDatabase(t)
	all, err := migrations.All()
	if err != nil || len(all) == 0 {
		t.Fatalf("%d migrations, %v", len(all), err)
	}
	var wg sync.WaitGroup
	var applied atomic.Int64
	for range 8 {
		conn := connect(t, url)
		wg.Go(func() {
			n, err := migrations.Apply(t.Context(), conn)
			applied.Add(int64(n))
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if int(applied.Load()) != len(all) {
		t.Fatalf("%d applied, want each of %d once", applied.Load(), len(all))
	}
	if n, err := migrations.Apply(t.Context(), connect(t, url)); n != 0 || err != nil {
		t.Fatalf("again: %d applied, %v", n, err)
	}
}

func TestApplyGoesOnFromWhereItIs(t *testing.T) {
	conn := connect(t, local.TestDatabase(t))
	if _, err := migrations.Apply(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `DROP TABLE envoy_proxies, proxy_metrics; DELETE FROM schema_migrations WHERE version = 3`); err != nil {
		t.Fatal(err)
	}
	if n, err := migrations.Apply(t.Context(), conn); n != 1 || err != nil {
		t.Fatalf("%d applied, %v; want 1", n, err)
	}
}

func TestApplyLeavesANewerDatabase(t *testing.T) {
	conn := connect(t, local.TestDatabase(t))
	if _, err := migrations.Apply(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `INSERT INTO schema_migrations VALUES (9999, 'later', 'x')`); err != nil {
		t.Fatal(err)
	}
	if n, err := migrations.Apply(t.Context(), conn); n != 0 || err != nil {
		t.Fatalf("%d applied, %v", n, err)
	}
}

func TestApplyRefusesAnotherHistory(t *testing.T) {
	conn := connect(t, local.TestDatabase(t))
	if _, err := migrations.Apply(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `UPDATE schema_migrations SET checksum = 'x' WHERE version = 2`); err != nil {
		t.Fatal(err)
	}
	if _, err := migrations.Apply(t.Context(), conn); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Fatalf("got %v", err)
	}
}

func TestAFailedMigrationLeavesNothing(t *testing.T) {
	conn := connect(t, local.TestDatabase(t))
	if _, err := conn.Exec(t.Context(), `CREATE TABLE endpoint_changes (in_the_way int)`); err != nil {
		t.Fatal(err)
	}
	if n, err := migrations.Apply(t.Context(), conn); err == nil || n != 1 {
		t.Fatalf("%d applied, %v; want the second to fail", n, err)
	}
	var revisions *string
	if err := conn.QueryRow(t.Context(), `SELECT to_regclass('fleet_revisions')::text`).Scan(&revisions); err != nil {
		t.Fatal(err)
	}
	if revisions != nil {
		t.Fatal("half of the second migration is there")
	}
}

// The planner must be able to use the partial index that counts connected
// proxies of a tenant.
func TestPartialIndexServesConnectedProxies(t *testing.T) {
	conn := connect(t, local.TestDatabase(t))
	if _, err := migrations.Apply(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(t.Context(), `SET enable_seqscan = off; `)
	if err != nil {
		t.Fatal(err)
	}
	rows.Close()
	rows, err = conn.Query(t.Context(), `EXPLAIN SELECT count(*) FROM envoy_proxies WHERE tenant = 'acme' AND status = 'connected'`)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(plan, "\n"); !strings.Contains(text, "idx_proxies_tenant_status") {
		t.Fatalf("the plan does without it:\n%s", text)
	}
}
