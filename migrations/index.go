package migrations

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// index is a statement of a migration, CREATE INDEX name ON table definition.
type index struct{ name, table, definition string }

var createIndex = regexp.MustCompile(`(?ms)^CREATE INDEX (\w+) ON (\w+)\s*(.*?);\s*?$`)

// split takes the indexes of tables that exist out of a migration's SQL.
func (m Migration) split(ctx context.Context, conn *pgx.Conn) (sql string, indexes []index, err error) {
	sql = createIndex.ReplaceAllStringFunc(m.SQL, func(statement string) string {
		match := createIndex.FindStringSubmatch(statement)
		ix := index{name: match[1], table: match[2], definition: match[3]}
		var exists bool
		if err == nil {
			err = conn.QueryRow(ctx, "SELECT to_regclass($1::text) IS NOT NULL", ix.table).Scan(&exists)
		}
		if !exists {
			return statement
		}
		indexes = append(indexes, ix)
		return ""
	})
	return sql, indexes, err
}

// buildIndexes builds indexes of tables that are written to meanwhile. What an
// earlier attempt has left is taken up.
func buildIndexes(ctx context.Context, conn *pgx.Conn, indexes []index) error {
	release, err := lockBuild(ctx, conn)
	if err != nil {
		return err
	}
	defer release()
	for _, ix := range indexes {
		if err := ix.build(ctx, conn); err != nil {
			return fmt.Errorf("index %s: %w", ix.name, err)
		}
	}
	return nil
}

// lockBuild lets one build at a time, by a transaction on a connection of its own
// that looks at nothing: a build waits for all who have a snapshot, be it that of
// a statement that waits, or of an answer in the extended protocol.
func lockBuild(ctx context.Context, conn *pgx.Conn) (release func(), err error) {
	holder, err := pgx.ConnectConfig(ctx, conn.Config())
	if err != nil {
		return nil, err
	}
	release = func() { _ = holder.Close(context.WithoutCancel(ctx)) } // which ends the transaction
	for {
		var got bool
		if _, err = holder.Exec(ctx, `BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0`); err == nil {
			err = holder.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock(hashtext('envoy-control-plane/indexes'))`,
				pgx.QueryExecModeSimpleProtocol).Scan(&got)
		}
		if err == nil && got {
			return release, nil
		}
		if err == nil {
			_, err = holder.Exec(ctx, "ROLLBACK")
		}
		if err = errors.Join(err, pause(ctx)); err != nil {
			release()
			return nil, err
		}
	}
}

// build makes the index; of a table with partitions one for each, concurrently, and
// then all of them one.
func (ix index) build(ctx context.Context, conn *pgx.Conn) error {
	var partitioned bool
	err := conn.QueryRow(ctx, "SELECT relkind = 'p' FROM pg_class WHERE oid = $1::text::regclass", ix.table).Scan(&partitioned)
	if err != nil {
		return err
	}
	if !partitioned {
		return ix.concurrently(ctx, conn)
	}
	if err := briefly(ctx, conn, fmt.Sprintf("CREATE INDEX IF NOT EXISTS %s ON ONLY %s %s", ix.name, ix.table, ix.definition)); err != nil {
		return err
	}
	rows, err := conn.Query(ctx, `SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = $1::text::regclass AND NOT EXISTS (
			SELECT FROM pg_inherits a JOIN pg_index x ON x.indexrelid = a.inhrelid
			WHERE a.inhparent = $2::text::regclass AND x.indrelid = c.oid) ORDER BY 1`, ix.table, ix.name)
	if err != nil {
		return err
	}
	partitions, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, partition := range partitions {
		part := index{ix.name + strings.TrimPrefix(partition, ix.table), partition, ix.definition}
		if err := part.concurrently(ctx, conn); err != nil {
			return err
		}
		if err := briefly(ctx, conn, fmt.Sprintf("ALTER INDEX %s ATTACH PARTITION %s", ix.name, part.name)); err != nil {
			return err
		}
	}
	return ix.check(ctx, conn)
}

// concurrently builds the index of a plain table while others write to it. One
// that is there and not valid is of an attempt that ended halfway.
func (ix index) concurrently(ctx context.Context, conn *pgx.Conn) error {
	valid, err := ix.valid(ctx, conn)
	if err != nil || (valid != nil && *valid) {
		return err
	}
	if valid != nil {
		if _, err := conn.Exec(ctx, "DROP INDEX CONCURRENTLY "+ix.name); err != nil {
			return err
		}
	}
	_, err = conn.Exec(ctx, fmt.Sprintf("CREATE INDEX CONCURRENTLY %s ON %s %s", ix.name, ix.table, ix.definition))
	return err
}

func (ix index) check(ctx context.Context, conn *pgx.Conn) error {
	valid, err := ix.valid(ctx, conn)
	if err == nil && (valid == nil || !*valid) {
		err = errors.New("not of all partitions yet")
	}
	return err
}

// valid is nil when there is no such index.
func (ix index) valid(ctx context.Context, conn *pgx.Conn) (*bool, error) {
	var valid *bool
	err := conn.QueryRow(ctx, "SELECT (SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1::text))", ix.name).Scan(&valid)
	return valid, err
}

const (
	// brief is how long a statement waits for its lock, and writers behind it;
	// then they have their turn for a pause, and it is tried again.
	brief    = "1s"
	breather = 250 * time.Millisecond
	// patience bounds that.
	patience = 5 * time.Minute
)

// briefly runs a statement that needs a lock which writers hold, too.
func briefly(ctx context.Context, conn *pgx.Conn, sql string) error {
	return patiently(ctx, func() error {
		_, err := conn.Exec(ctx, "BEGIN; SET LOCAL lock_timeout = '"+brief+"'; "+sql+"; COMMIT")
		if err != nil {
			_, undo := conn.Exec(ctx, "ROLLBACK")
			err = errors.Join(err, undo)
		}
		return err
	})
}

// patiently tries again what did not get its lock.
func patiently(ctx context.Context, f func() error) error {
	for end := time.Now().Add(patience); ; {
		err := f()
		if !refusedWith(err, "55P03") || time.Now().After(end) { // lock_not_available
			return err
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context) error {
	select {
	case <-time.After(breather):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func refusedWith(err error, code string) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == code
}
