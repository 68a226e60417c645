package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/cmd/ecpbench/trio"
	"github.com/org/envoy-control-plane/deploy/local"
)

// bare is the baseline of archive: a COPY of the same rows, and a cluster without
// a database.
const bare = "bare"

func (a *app) archiveCommand() *cobra.Command {
	o := &trioOptions{}
	cmd := &cobra.Command{
		Use:   "archive",
		Short: "Measure what the archive stores, beside a bare COPY, and what it costs writes",
		Long: `archive starts a Postgres and clusters of three processes that archive into it, and
has clients write endpoints: while the archive keeps up with them, and again while
another transaction holds the archive's cursor, so that events wait in the outbox. Let
go, the leader stores what has waited: measured are rows per second, from its first
batch to its last.

Beside it, as bare: the same rows by COPY, as bytes that Postgres itself has written,
into tables with the same partitions and indexes; and the same writes to a cluster
without a database. Clients that write as much as they can take turns with Postgres
on the processors; with --rate below that, what is left is what the archive itself
does to a write.

Figures are medians of the rounds; ratios are to bare. All traffic stays on 127.0.0.1.`,
		Example: `  ecpbench archive
  ecpbench archive --rate 500
  ecpbench archive --clients 16 --rounds 5 --for 20s -o json`,
		Args: cobra.NoArgs,
	}
	o.addFlags(cmd.Flags(), 3)
	o.addLoad(cmd.Flags())
	o.addRate(cmd.Flags())
	ownOnly(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.servers = []string{trio.ECP}
		if err := o.check(); err != nil {
			return err
		}
		setup := Trio{Clients: o.clients, Size: o.size, Seconds: o.lasting.Seconds(), Offered: o.rate}
		return a.clusters(cmd.Context(), "archive", o, setup, measureArchive)
	}
	return cmd
}

// archived is what was measured in a turn: of bare, live and blocked are the same
// writes.
type archived struct {
	live, blocked worked
	// rows were stored in a time, with so much CPU of the members.
	rows int64
	took time.Duration
	cpu  cpu
}

func (s archived) rate() float64 { return float64(s.rows) / s.took.Seconds() }

func measureArchive(ctx context.Context, r *trioRun) error {
	r.baseline = bare
	db, err := local.StartPostgres(ctx, local.PostgresOptions{
		Dir: filepath.Join(r.dir, "postgres"), Settings: map[string]string{"max_wal_size": "4GB", "shared_buffers": "256MB"},
	})
	if err != nil {
		return err
	}
	defer func() { _ = db.Stop(context.WithoutCancel(ctx)) }() // its folder is removed
	samples := map[string][]archived{}
	for round := range r.rounds {
		without, with, err := r.archiveRound(ctx, db.URL, round)
		if err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		r.app.note("round %d/%d: %.0f rows a second, COPY %.0f; writes %s, without %s", round+1, r.rounds,
			with.rate(), without.rate(), with.live.glance(), without.live.glance())
		samples[bare] = append(samples[bare], without)
		samples[trio.ECP] = append(samples[trio.ECP], with)
	}
	for _, name := range []string{bare, trio.ECP} {
		all := samples[name]
		var live, blocked []worked
		for _, s := range all {
			live, blocked = append(live, s.live), append(blocked, s.blocked)
		}
		figures := []figure{median("rows stored per second", "", all, archived.rate)}
		if name == trio.ECP {
			figures = append(figures,
				median("rows that waited", "", all, func(s archived) float64 { return float64(s.rows) }),
				median("nodes' CPU for each row", "us", all, func(s archived) float64 { return micros(s.cpu.total()) / float64(s.rows) }))
		}
		figures = append(figures, loadFigures("writes, archive live", live)...)
		figures = append(figures, loadFigures("writes, archive blocked", blocked)...)
		r.result.Servers = append(r.result.Servers, outcome{Server: name, Figures: figures})
	}
	return nil
}

// archiveRound is a turn of each, which goes first changes from round to round.
func (r *trioRun) archiveRound(ctx context.Context, postgres string, round int) (without, with archived, err error) {
	alone := func() error {
		without.live, err = withCluster(ctx, r, trio.ECP, trio.Options{}, func(ctx context.Context, c *trio.Cluster) (worked, error) {
			return work(ctx, c, r.trioOptions, r.put)
		})
		without.blocked = without.live
		return err
	}
	archiving := func() error {
		database, err := newDatabase(ctx, postgres, fmt.Sprintf("archive_%d", round))
		if err != nil {
			return err
		}
		var stored extent
		with, err = withCluster(ctx, r, trio.ECP, trio.Options{DatabaseURL: database}, func(ctx context.Context, c *trio.Cluster) (out archived, err error) {
			out, stored, err = r.archiveTurn(ctx, c, database)
			return out, err
		})
		if err != nil {
			return err
		}
		bareDatabase, err := newDatabase(ctx, postgres, fmt.Sprintf("bare_%d", round))
		if err != nil {
			return err
		}
		if with.rows, without.took, err = bareCopy(ctx, database, bareDatabase, stored); err != nil {
			return fmt.Errorf("copy the same rows: %w", err)
		}
		without.rows = with.rows
		return nil
	}
	turns := []func() error{alone, archiving}
	if round%2 == 1 {
		turns[0], turns[1] = turns[1], turns[0]
	}
	for _, turn := range turns {
		if err := turn(); err != nil {
			return without, with, err
		}
	}
	return without, with, nil
}

// newDatabase makes a database and returns its URL.
func newDatabase(ctx context.Context, postgres, name string) (string, error) {
	conn, err := pgx.Connect(ctx, postgres)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	u, err := url.Parse(postgres)
	if err != nil {
		return "", err
	}
	u.Path = "/" + name
	return u.String(), nil
}

// extent is a piece of the events: those above one sequence through another.
type extent struct{ after, through int64 }

// archiveTurn has clients write while the archive keeps up, then while it cannot,
// and watches it catch up.
func (r *trioRun) archiveTurn(ctx context.Context, c *trio.Cluster, database string) (out archived, stored extent, err error) {
	members, err := membersClients(c)
	if err != nil {
		return out, stored, err
	}
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return out, stored, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if out.live, err = work(ctx, c, r.trioOptions, r.put); err != nil {
		return out, stored, err
	}
	if _, err = caughtUp(ctx, members[0], conn); err != nil {
		return out, stored, err
	}
	release, err := holdCursor(ctx, database)
	if err != nil {
		return out, stored, err
	}
	out.blocked, err = work(ctx, c, r.trioOptions, r.put)
	released := time.Now()
	if err = errors.Join(err, release()); err != nil {
		return out, stored, err
	}
	stored, out.took, out.cpu, err = watchStoring(ctx, c, members[0], conn, released)
	return out, stored, err
}

// holdCursor keeps the archive from storing anything.
func holdCursor(ctx context.Context, database string) (release func() error, err error) {
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, "BEGIN; SELECT FROM archive_cursor FOR UPDATE"); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return func() error { return conn.Close(context.WithoutCancel(ctx)) }, nil
}

// look is how often the cursor is looked at.
const look = 5 * time.Millisecond

// cursor returns how far all is stored, and when the last batch of that was begun.
func cursor(ctx context.Context, conn *pgx.Conn) (seq int64, begun time.Time, err error) {
	err = conn.QueryRow(ctx, "SELECT coalesce(max(seq), 0), coalesce(max(updated_at), now()) FROM archive_cursor").Scan(&seq, &begun)
	return seq, begun, err
}

// caughtUp waits until all events are stored and returns the last one's sequence.
func caughtUp(ctx context.Context, member *client.Client, conn *pgx.Conn) (last int64, err error) {
	for {
		is, err := member.Cluster(ctx)
		if err != nil {
			return 0, err
		}
		seq, _, err := cursor(ctx, conn)
		if err != nil || uint64(seq) == is.Archive.LastSeq {
			return seq, err
		}
		if err := pause(ctx, look); err != nil {
			return 0, err
		}
	}
}

// watchStoring takes the time from the end of the first batch to that of the last;
// where one takes all, its own since the cursor was released.
func watchStoring(
	ctx context.Context, c *trio.Cluster, member *client.Client, conn *pgx.Conn, released time.Time,
) (stored extent, took time.Duration, used cpu, err error) {
	is, err := member.Cluster(ctx)
	if err != nil {
		return stored, 0, used, err
	}
	before, _, err := cursor(ctx, conn)
	if err != nil {
		return stored, 0, used, err
	}
	last := int64(is.Archive.LastSeq)
	start, err := membersCPU(c)
	if err != nil {
		return stored, 0, used, err
	}
	var began, begun time.Time
	for seq := before; seq < last; {
		if err := pause(ctx, look); err != nil {
			return stored, 0, used, err
		}
		if seq, begun, err = cursor(ctx, conn); err != nil {
			return stored, 0, used, err
		}
		switch {
		case !began.IsZero() || seq == before:
		case seq < last:
			began, stored.after = time.Now(), seq
			if start, err = membersCPU(c); err != nil {
				return stored, 0, used, err
			}
		default:
			if began = released; begun.After(released) {
				began = begun
			}
			stored.after = before
		}
	}
	took, stored.through = time.Since(began), last
	if stored.through <= stored.after {
		return stored, 0, used, errors.New("nothing has waited")
	}
	end, err := membersCPU(c)
	return stored, took, end.since(start), err
}
