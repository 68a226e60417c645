package faults

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/org/envoy-control-plane/deploy/history"
	"github.com/org/envoy-control-plane/deploy/load"
	"github.com/org/envoy-control-plane/deploy/local"
)

// check is what must hold at the end of a round, when the cluster is whole and
// nobody writes: all nodes have one state, it has what was acknowledged, the
// history is linearizable, and Postgres has each write once.
func check(c *cluster, k load.Keys, round int, h *history.Recorder) {
	began := time.Now()
	index, err := c.mark()
	if err != nil {
		c.t.Fatal(err)
	}
	states := make([]*load.State, size)
	for i := range states {
		if states[i], err = c.http.State(context.Background(), c.url(i), k, index); err != nil {
			c.t.Fatalf("the state of %s: %v", nodeID(i), err)
		}
		if what := states[0].Difference(states[i]); what != "" {
			c.t.Errorf("the states of node-0 and %s differ at index %d: %s", nodeID(i), index, what)
		}
		c.http.As(clients+i, c.url(i), h).LastWords(context.Background(), k, index)
	}
	ops := h.Take()
	c.t.Logf("round %d: %v", round, history.Summary(ops))
	name := func(format string) string { return filepath.Join(c.dir, fmt.Sprintf(format, round)) }
	if err := history.Save(name("history-%d.jsonl"), ops); err != nil {
		c.t.Error(err)
	}
	if err := history.Present(ops, states[0].Writers()); err != nil {
		c.t.Error(err)
	}
	if err := history.Check(ops, name("history-%d.html")); err != nil {
		c.t.Error(err)
	}
	if err := c.archived(ops, k, states[0]); err != nil {
		c.t.Error(err)
	}
	c.t.Logf("round %d: checked in %s", round, time.Since(began).Round(time.Millisecond))
}

// mark makes a last write and returns its index.
func (c *cluster) mark() (index uint64, err error) {
	err = within(patience, "a last write", func() (err error) {
		index, err = c.http.Mark(context.Background())
		return err
	})
	return index, err
}

// archived holds all writes, and the state that came of them, against Postgres.
func (c *cluster) archived(ops []*history.Operation, k load.Keys, s *load.State) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	err := within(patience, "the archive has each event once", func() error {
		return local.ArchivedOnce(ctx, c.url(0), c.database.postgres.URL)
	})
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, c.database.postgres.URL)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	errs := []error{isArchived(ctx, conn, s)}
	times := map[int]int{}
	for query, names := range map[string][]string{
		`SELECT message FROM fleet_revisions WHERE fleet = ANY($1)`:          k.Fleets,
		`SELECT content::text FROM endpoint_changes WHERE service = ANY($1)`: k.Services,
	} {
		rows, err := conn.Query(ctx, query, names)
		if err != nil {
			return err
		}
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		for _, text := range texts {
			times[load.WriterOf(text)]++
		}
	}
	for _, o := range ops {
		if !o.Writes() {
			continue
		}
		if err := history.Counted(o, times[o.ID]); err != nil {
			errs = append(errs, fmt.Errorf("postgres: %w", err))
		}
	}
	return errors.Join(errs...)
}

// isArchived wants Postgres to have the revisions of a state, each once, and no
// others.
func isArchived(ctx context.Context, conn *pgx.Conn, s *load.State) error {
	for fleet, revisions := range s.Revisions {
		want := make([]string, 0, len(revisions))
		for _, r := range revisions {
			want = append(want, fmt.Sprint(r.Revision, " ", r.Message))
		}
		slices.Sort(want)
		rows, err := conn.Query(ctx, "SELECT concat(revision, ' ', message) FROM fleet_revisions WHERE fleet = $1", fleet)
		if err != nil {
			return err
		}
		got, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("postgres has other revisions of %s: %q, the state %q", fleet, got, want)
		}
	}
	return nil
}
