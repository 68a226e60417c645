package archive

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// MaxDefaultRows is how far rows of a default partition are counted.
const MaxDefaultRows = 10_000

// Inventory is what the database has of this cluster's history, and of all that
// share it.
type Inventory struct {
	// Cursor is nil while the present epoch has none.
	Cursor *Cursor
	// Gaps counts the gaps of all histories, GapEvents the events in them; LastGap
	// is when the newest was noticed.
	Gaps, GapEvents uint64
	LastGap         time.Time
	// Digested is the log time up to which reports count; zero while none does.
	Digested time.Time
	// Quarantined are the events of all histories that are set aside because
	// Postgres refuses them.
	Quarantined uint64
	Tables      []Table
}

// Cursor is how far the present epoch is stored, and by whom.
type Cursor struct {
	Seq, Term uint64
	Node      string
	UpdatedAt time.Time
}

// Table is a table with monthly partitions.
type Table struct {
	Name       string
	Partitions []Partition
	// DefaultRows are the rows that fit in no partition, counted up to
	// MaxDefaultRows.
	DefaultRows uint64
}

// Partition is one part of a table.
type Partition struct {
	Name string
	// From is inclusive, To exclusive; zero for the default partition, and for one
	// that somebody else has made.
	From, To time.Time
	// Rows is Postgres' own estimate, Bytes counts indexes, too.
	Rows, Bytes uint64
}

// Inventory reads what is stored, on the read URL.
func (a *Archive) Inventory(ctx context.Context) (*Inventory, error) {
	out := &Inventory{}
	err := a.onPool(ctx, func(ctx context.Context, pool *pgxpool.Pool) (err error) {
		id := a.cluster.State().Identity()
		here := history{id.GetClusterId(), id.GetEpoch()}
		if out.Cursor, out.Digested, err = readCursor(ctx, pool, here); err != nil {
			return err
		}
		var last *time.Time
		err = pool.QueryRow(ctx, `SELECT count(*), coalesce(sum(to_seq - from_seq + 1), 0), max(noticed_at),
			(SELECT count(*) FROM archive_quarantine) FROM archive_gaps`).Scan(&out.Gaps, &out.GapEvents, &last, &out.Quarantined)
		if err != nil {
			return err
		}
		if last != nil {
			out.LastGap = last.UTC()
		}
		for _, name := range inventoried() {
			t := Table{Name: name}
			if t.Partitions, err = readPartitions(ctx, pool, name); err != nil {
				return err
			}
			if t.DefaultRows, err = countDefault(ctx, pool, name); err != nil {
				return err
			}
			out.Tables = append(out.Tables, t)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// one is a connection, a transaction or a pool of them.
type one interface {
	querier
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func readCursor(ctx context.Context, q one, here history) (*Cursor, time.Time, error) {
	var c Cursor
	var seq, term int64
	var digested *time.Time
	err := q.QueryRow(ctx, `SELECT c.seq, c.term, c.node, c.updated_at, d.at FROM archive_cursor c
		LEFT JOIN archive_digests d USING (cluster, epoch) WHERE cluster = $1 AND epoch = $2`,
		here.clusterID, here.epoch).Scan(&seq, &term, &c.Node, &c.UpdatedAt, &digested)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, time.Time{}, nil
	}
	c.Seq, c.Term, c.UpdatedAt = uint64(seq), uint64(term), c.UpdatedAt.UTC()
	if digested == nil {
		return &c, time.Time{}, err
	}
	return &c, digested.UTC(), err
}

// The rows of a partition that was never analysed are those that the statistics
// of this server have seen.
const selectPartitions = `
SELECT c.relname::text, pg_total_relation_size(c.oid), CASE
    WHEN pg_relation_size(c.oid) = 0 THEN 0
    WHEN c.reltuples > 0 AND c.relpages > 0
        THEN (c.reltuples / c.relpages * (pg_relation_size(c.oid) / current_setting('block_size')::int))::bigint
    ELSE pg_stat_get_live_tuples(c.oid) END
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = $1::text::regclass ORDER BY 1`

func readPartitions(ctx context.Context, q querier, table string) ([]Partition, error) {
	rows, err := q.Query(ctx, selectPartitions, table)
	if err != nil {
		return nil, err
	}
	var p Partition
	var bytes, count int64
	var out []Partition
	_, err = pgx.ForEachRow(rows, []any{&p.Name, &bytes, &count}, func() error {
		part := Partition{Name: p.Name, Bytes: uint64(bytes), Rows: uint64(count)}
		if t, err := time.Parse(table+"_2006_01", p.Name); err == nil {
			m := monthOf(t)
			part.From, part.To = m.Time, m.add(1).Time
		} else if day, err := time.Parse(table+"_2006_01_02", p.Name); err == nil {
			part.From, part.To = day, day.AddDate(0, 0, 1)
		}
		out = append(out, part)
		return nil
	})
	return out, err
}

// countDefault counts a table's rows that fit in no partition.
func countDefault(ctx context.Context, q one, table string) (uint64, error) {
	var n int64
	err := q.QueryRow(ctx, `SELECT count(*) FROM (SELECT FROM `+table+`_default LIMIT $1) r`, MaxDefaultRows).Scan(&n)
	return uint64(n), err
}
