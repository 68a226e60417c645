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
// the lock, also behind a pooler that knows no sessions.
const begin = `BEGIN;
SET LOCAL lock_timeout = '60s';
SET LOCAL statement_timeout = '10min';
SET LOCAL idle_in_transaction_session_timeout = '60s';
SELECT pg_advisory_xact_lock(hashtext('envoy-control-plane/migrations'))`

const table = `CREATE TABLE IF NOT EXISTS schema_migrations (
    version    integer     PRIMARY KEY,
    name       text        NOT NULL,
    checksum   text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)`

// Apply brings the database to the newest version, each migration in a
// transaction of its own, and returns how many it applied. Several may call it
// at once. A database that is ahead, of a newer release, is left as it is.
func Apply(ctx context.Context, conn *pgx.Conn) (int, error) {
	all, err := All()
	if err != nil {
		return 0, err
	}
	applied := 0
	for {
		more, err := step(ctx, conn, all)
		if err != nil {
			return applied, fmt.Errorf("migrate: %w", err)
		}
		if !more {
			return applied, nil
		}
		applied++
	}
}

// step applies the first migration that is missing, if one is.
func step(ctx context.Context, conn *pgx.Conn, all []Migration) (more bool, err error) {
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
	done, err := checksums(ctx, tx)
	if err != nil {
		return false, err
	}
	for _, m := range all {
		switch sum, ok := done[m.Version]; {
		case !ok:
			return true, m.apply(ctx, tx)
		case sum != m.Checksum:
			return false, fmt.Errorf("version %d (%s) of the database is not this program's: they have different checksums", m.Version, m.Name)
		}
	}
	return false, tx.Commit(ctx)
}

func checksums(ctx context.Context, tx pgx.Tx) (map[int]string, error) {
	rows, err := tx.Query(ctx, "SELECT version, checksum FROM schema_migrations")
	if err != nil {
		return nil, err
	}
	done := map[int]string{}
	var version int
	var sum string
	_, err = pgx.ForEachRow(rows, []any{&version, &sum}, func() error {
		done[version] = sum
		return nil
	})
	return done, err
}

func (m Migration) apply(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, m.SQL); err != nil {
		return fmt.Errorf("version %d (%s): %w", m.Version, m.Name, err)
	}
	_, err := tx.Exec(ctx, "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",
		m.Version, m.Name, m.Checksum)
	if err != nil {
		return err
	}
	return tx.Commit(ctx)
}
