package archive

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// holders are the transactions of other writers that keep a row of a table to
// themselves. The row that one has locked or changed names it.
const holders = `
SELECT a.pid, pg_terminate_backend(a.pid) FROM %s c
JOIN pg_locks l ON l.locktype = 'transactionid' AND l.transactionid = c.xmax AND l.granted
JOIN pg_stat_activity a ON a.pid = l.pid AND a.usename = current_user
    AND a.application_name = current_setting('application_name')
WHERE c.cluster = $1 AND c.epoch = $2`

// waitedInVain reports whether somebody else has kept a lock for too long.
func waitedInVain(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "55P03"
}

// endHolder ends the writer that keeps the row of this history in a table: a
// leader that vanished in the midst of a COPY would keep it for as long as TCP
// lets it, because no timeout of Postgres looks at who waits for COPY's data.
// Only whoever may write may do so.
func (s *session) endHolder(ctx context.Context, table string) error {
	rows, err := s.conn.Query(ctx, fmt.Sprintf(holders, table), s.clusterID, s.epoch)
	if err != nil {
		return fmt.Errorf("look who holds %s: %w", table, err)
	}
	defer rows.Close()
	for rows.Next() {
		var pid int32
		var ended bool
		if err := rows.Scan(&pid, &ended); err != nil {
			return err
		}
		s.log.Warn("archive: ended a writer that kept others waiting", "table", table, "pid", pid, "ended", ended)
	}
	return rows.Err()
}
