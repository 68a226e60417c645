package migrations

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// ApplyThrough brings a database to a version, as an older program does.
func ApplyThrough(ctx context.Context, conn *pgx.Conn, version int) (int, error) {
	all, err := All()
	if err != nil {
		return 0, err
	}
	return apply(ctx, conn, all[:version])
}
