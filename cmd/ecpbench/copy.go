package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/org/envoy-control-plane/migrations"
)

// copied are the tables that writes of endpoints add rows to.
var copied = [...]string{"fleet_events", "endpoint_changes"}

// bareCopy copies events from one database into the tables of a new one, and
// returns how many rows that were and how long the COPY took.
func bareCopy(ctx context.Context, from, to string, what extent) (rows int64, took time.Duration, err error) {
	source, err := pgx.Connect(ctx, from)
	if err != nil {
		return 0, 0, err
	}
	defer source.Close(context.WithoutCancel(ctx))
	target, err := pgx.Connect(ctx, to)
	if err != nil {
		return 0, 0, err
	}
	defer target.Close(context.WithoutCancel(ctx))
	if _, err := migrations.Apply(ctx, target); err != nil {
		return 0, 0, err
	}
	for _, table := range copied {
		n, one, err := copyTable(ctx, source, target, table, what)
		if err != nil {
			return 0, 0, fmt.Errorf("%s: %w", table, err)
		}
		rows += n
		took += one
	}
	return rows, took, nil
}

func copyTable(ctx context.Context, source, target *pgx.Conn, table string, what extent) (rows int64, took time.Duration, err error) {
	const month = "date_trunc('month', now(), 'UTC')"
	for _, m := range []string{month, month + " - interval '1 month'"} { // the turn of a month may lie between
		if _, err := target.Exec(ctx, fmt.Sprintf("SELECT archive_make_partition('%s', %s)", table, m)); err != nil {
			return 0, 0, err
		}
	}
	var all bytes.Buffer
	_, err = source.PgConn().CopyTo(ctx, &all, fmt.Sprintf(
		"COPY (SELECT * FROM %s WHERE seq > %d AND seq <= %d) TO STDOUT (FORMAT binary)", table, what.after, what.through))
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	tag, err := target.PgConn().CopyFrom(ctx, &all, fmt.Sprintf("COPY %s FROM STDIN (FORMAT binary)", table))
	return tag.RowsAffected(), time.Since(began), err
}
