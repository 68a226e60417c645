package local

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
)

// TB is what TestDatabase needs of a testing.TB.
type TB interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// TestDatabase returns the URL of a new database, dropped when the test ends.
// It is on the server of DATABASE_URL, else on one that all tests of the
// process share and that ends with the process. Without either the test fails.
func TestDatabase(t TB) string {
	t.Helper()
	admin, err := testServer()
	if err != nil {
		t.Fatalf("a Postgres to test with: %v", err)
	}
	name := "ecp_test_" + strings.ToLower(rand.Text()[:12])
	ctx, cancel := context.WithTimeout(context.Background(), postgresStart)
	defer cancel()
	if err := createDatabase(ctx, admin, name); err != nil {
		t.Fatalf("create a test database: %v", err)
	}
	t.Cleanup(func() {
		if err := dropDatabase(admin, name); err != nil {
			t.Errorf("drop the test database: %v", err)
		}
	})
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatalf("DATABASE_URL: %v", err)
	}
	u.Path = "/" + name
	return u.String()
}

// shared is the one server of a test process: there is no earlier moment to
// start it than the first test that needs it, and no later one to stop it
// than the end of the process.
//
//nolint:gochecknoglobals // one server for all tests of a process
var shared = sync.OnceValues(func() (string, error) {
	p, err := StartPostgres(context.Background(), PostgresOptions{NoSync: true})
	if err != nil {
		return "", err
	}
	return p.URL, nil
})

func testServer() (string, error) {
	if target := os.Getenv("DATABASE_URL"); target != "" {
		if u, err := url.Parse(target); err != nil || u.Host == "" {
			return "", fmt.Errorf("DATABASE_URL is not of the form postgres://user:password@host/database")
		}
		return target, nil
	}
	return shared()
}

func dropDatabase(admin, name string) error {
	// It waits for every backend of the server to take note, and one that waits for
	// a COPY's data, as other tests have them, takes none.
	ctx, cancel := context.WithTimeout(context.Background(), postgresStart)
	defer cancel()
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "DROP DATABASE "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)")
	return err
}
