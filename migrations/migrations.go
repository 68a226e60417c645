package migrations

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed *.sql
var files embed.FS

// Migration is one numbered step of the schema.
type Migration struct {
	Version int
	Name    string
	SQL     string
	// Checksum is the SHA-256 of the SQL, in hex.
	Checksum string
}

// All returns the migrations in order, numbered from 1 without a hole.
func All() ([]Migration, error) { return load(files) }

func load(from fs.FS) ([]Migration, error) {
	names, err := fs.Glob(from, "*.sql") // sorted by name
	if err != nil {
		return nil, err
	}
	all := make([]Migration, 0, len(names))
	for i, file := range names {
		number, name, _ := strings.Cut(strings.TrimSuffix(file, ".sql"), "_")
		if n, err := strconv.Atoi(number); err != nil || n != i+1 {
			return nil, fmt.Errorf("migration %s: its number is not %d", file, i+1)
		}
		sql, err := fs.ReadFile(from, file)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(sql)
		all = append(all, Migration{Version: i + 1, Name: name, SQL: string(sql), Checksum: hex.EncodeToString(sum[:])})
	}
	return all, nil
}

// begin opens the transaction of one migration. Whoever comes second waits for
// the lock, also behind a pooler that knows no sessions; tables are waited for
// briefly, because writers wait behind.
const begin = `BEGIN;
SET LOCAL lock_timeout = '60s';
SET LOCAL statement_timeout = '10min';
SET LOCAL idle_in_transaction_session_timeout = '60s';
SELECT pg_advisory_xact_lock(hashtext('envoy-control-plane/migrations'));
SET LOCAL lock_timeout = '` + brief + "'"

const table = `CREATE TABLE IF NOT EXISTS schema_migrations (
    version    integer     PRIMARY KEY,
    name       text        NOT NULL,
    checksum   text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)`

// Apply brings the database to the newest version, each migration in a
// transaction of its own, and returns how many it applied. Several may call it
// at once. A database that is ahead, of a newer release, is left as it is, and
// one that lacks nothing is only looked at.
func Apply(ctx context.Context, conn *pgx.Conn) (int, error) {
	all, err := All()
	if err != nil {
		return 0, err
	}
	return apply(ctx, conn, all)
}

func apply(ctx context.Context, conn *pgx.Conn, all []Migration) (applied int, err error) {
	done, err := checksums(ctx, conn)
	for err == nil {
		var next *Migration
		if next, err = missing(all, done); next == nil || err != nil {
			break
		}
		var did bool
		if did, err = next.apply(ctx, conn); err != nil {
			break
		}
		if did {
			applied++
		}
		done, err = checksums(ctx, conn)
	}
	if refusedWith(err, "42501") { // insufficient_privilege
		err = fmt.Errorf("the database's user may not change the schema, run envoy-control-plane migrate as its owner: %w", err)
	}
	if err != nil {
		return applied, fmt.Errorf("migrate: %w", err)
	}
	return applied, nil
}

// missing returns the first migration that has not been applied.
func missing(all []Migration, done map[int]string) (*Migration, error) {
	for i, m := range all {
		switch sum, ok := done[m.Version]; {
		case !ok:
			return &all[i], nil
		case sum != m.Checksum:
			return nil, fmt.Errorf("version %d (%s) of the database is not this program's: they have different checksums", m.Version, m.Name)
		}
	}
	return nil, nil
}

// checksums are those of the migrations that have been applied.
func checksums(ctx context.Context, conn *pgx.Conn) (map[int]string, error) {
	done := map[int]string{}
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT to_regclass('schema_migrations') IS NOT NULL").Scan(&exists); err != nil || !exists {
		return done, err
	}
	rows, err := conn.Query(ctx, "SELECT version, checksum FROM schema_migrations")
	if err != nil {
		return nil, err
	}
	var version int
	var sum string
	_, err = pgx.ForEachRow(rows, []any{&version, &sum}, func() error {
		done[version] = sum
		return nil
	})
	return done, err
}

// apply applies a migration unless somebody else has, and reports whether it did.
func (m Migration) apply(ctx context.Context, conn *pgx.Conn) (did bool, err error) {
	sql, indexes, err := m.split(ctx, conn)
	if err != nil {
		return false, err
	}
	if len(indexes) > 0 {
		if err := buildIndexes(ctx, conn, indexes); err != nil {
			return false, fmt.Errorf("version %d (%s): %w", m.Version, m.Name, err)
		}
	}
	err = patiently(ctx, func() error {
		did, err = m.step(ctx, conn, sql)
		return err
	})
	return did, err
}

// step is a migration's transaction.
func (m Migration) step(ctx context.Context, conn *pgx.Conn, sql string) (did bool, err error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: begin})
	if err != nil {
		return false, err
	}
	defer func() {
		if closed := tx.Rollback(ctx); !errors.Is(closed, pgx.ErrTxClosed) {
			err = errors.Join(err, closed)
		}
	}()
	if _, err := tx.Exec(ctx, table); err != nil {
		return false, err
	}
	tag, err := tx.Exec(ctx, "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
		m.Version, m.Name, m.Checksum)
	if err != nil || tag.RowsAffected() == 0 {
		return false, err
	}
	if _, err := tx.Exec(ctx, sql); err != nil {
		return false, fmt.Errorf("version %d (%s): %w", m.Version, m.Name, err)
	}
	return true, tx.Commit(ctx)
}
