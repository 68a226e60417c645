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

func migrated(t *testing.T) (url string, conn *pgx.Conn) {
	t.Helper()
	url = local.TestDatabase(t)
	conn = connect(t, url)
	if _, err := migrations.Apply(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	return url, conn
}

// atOnce has many call a function with each month, and returns how many times it
// said that it did something.
func atOnce(t *testing.T, url, sql string, months ...string) int {
	t.Helper()
	var wg sync.WaitGroup
	var did atomic.Int64
	for range 6 {
		conn := connect(t, url)
		wg.Go(func() {
			for _, month := range months {
				var done bool
				if err := conn.QueryRow(context.WithoutCancel(t.Context()), sql, month).Scan(&done); err != nil {
					t.Error(err)
				}
				if done {
					did.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return int(did.Load())
}

// Making and dropping partitions is safe to do again, and at once.
func TestPartitionsAtOnce(t *testing.T) {
	url, conn := migrated(t)
	run(t, conn, `INSERT INTO fleet_events SELECT 'c', 'e', n, 't', n, n, '2020-01-31 23:59:59.999999Z', 'f', 'k', 'ann', '{}' FROM generate_series(1, 500) n`)
	run(t, conn, `INSERT INTO fleet_events SELECT 'c', 'e', n, 't', n, n, '2020-02-01 00:00:00Z', 'f', 'k', 'ann', '{}' FROM generate_series(501, 600) n`)
	months := []string{"2020-01-01T00:00:00Z", "2020-02-01T00:00:00Z", "2020-03-01T00:00:00Z"}
	if n := atOnce(t, url, `SELECT archive_make_partition('fleet_events', $1::text::timestamptz)`, months...); n != 3 {
		t.Errorf("made %d times", n)
	}
	const where = `SELECT string_agg(p || ' ' || n, ', ' ORDER BY p) FROM (SELECT tableoid::regclass::text AS p, count(*) AS n FROM fleet_events GROUP BY 1) r`
	wantText(t, conn, "fleet_events_2020_01 500, fleet_events_2020_02 100", where)
	if n := atOnce(t, url, `SELECT archive_drop_partition('fleet_events', $1::text::timestamptz)`, months[:1]...); n != 1 {
		t.Errorf("dropped %d times", n)
	}
	wantText(t, conn, "fleet_events_2020_02 100", where)
	// Other sessions' time zones do not move the months.
	run(t, conn, `SET TimeZone = 'Pacific/Auckland'`)
	run(t, conn, `SELECT archive_make_partition('fleet_events', '2020-07-01T00:00:00Z')`)
	run(t, conn, `SET TimeZone = 'UTC'`)
	wantText(t, conn, "FOR VALUES FROM ('2020-07-01 00:00:00+00') TO ('2020-08-01 00:00:00+00')",
		`SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'fleet_events_2020_07'`)
}

// The functions touch only what they are for, and nothing that the owner keeps.
func TestPartitionFunctionsRefuse(t *testing.T) {
	_, conn := migrated(t)
	run(t, conn, `UPDATE archive_policy SET min_retention = '1 year'`)
	run(t, conn, `SELECT archive_make_partition('fleet_events', date_trunc('month', now() - interval '3 months', 'UTC'))`)
	for sql, want := range map[string]string{
		`SELECT archive_make_partition('archive_cursor', '2020-01-01T00:00:00Z')`:                                "not a table of the archive",
		`SELECT archive_make_partition('fleet_events; DROP TABLE archive_cursor', '2020-01-01T00:00:00Z')`:       "not a table of the archive",
		`SELECT archive_make_partition('fleet_events', '2020-01-02T00:00:00Z')`:                                  "not the beginning of a month",
		`SELECT archive_drop_partition('pg_class', '2020-01-01T00:00:00Z')`:                                      "not a table of the archive",
		`SELECT archive_drop_partition('fleet_events', date_trunc('month', now() - interval '3 months', 'UTC'))`: "is kept",
		`SELECT archive_drop_partition('fleet_events', date_trunc('month', now(), 'UTC'))`:                       "is kept",
		`SELECT archive_trim_default('fleet_events', now() - interval '11 months')`:                              "is kept",
		`INSERT INTO archive_policy (one) VALUES (false)`:                                                        "violates check constraint",
	} {
		if _, err := conn.Exec(t.Context(), sql); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", sql, err, want)
		}
	}
}
