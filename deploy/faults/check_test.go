package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/deploy/history"
	"github.com/org/envoy-control-plane/deploy/local"
)

// check is what must hold at the end of a round, when the cluster is whole and
// nobody writes: all nodes have one state, it has what was acknowledged, the
// history is linearizable, and Postgres has each write once.
func check(c *cluster, k keys, round int, h *history.Recorder) {
	began := time.Now()
	index, err := c.mark()
	if err != nil {
		c.t.Fatal(err)
	}
	states := make([]*state, size)
	for i := range states {
		if states[i], err = c.stateOf(i, k, index); err != nil {
			c.t.Fatalf("the state of %s: %v", nodeID(i), err)
		}
		if !bytes.Equal(states[i].raw, states[0].raw) {
			c.t.Errorf("the states of node-0 and %s differ at index %d:\n%s\n%s", nodeID(i), index, states[0].raw, states[i].raw)
		}
		c.lastWord(i, k, index, h)
	}
	ops := h.Take()
	c.t.Logf("round %d: %v", round, history.Summary(ops))
	name := func(format string) string { return filepath.Join(c.dir, fmt.Sprintf(format, round)) }
	if err := history.Save(name("history-%d.jsonl"), ops); err != nil {
		c.t.Error(err)
	}
	if err := history.Present(ops, states[0].writers()); err != nil {
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
	err = within(patience, "a last write", func() error {
		c.http.put(context.Background(), "marker")
		ops := c.http.history.Take()
		o := ops[len(ops)-1]
		if o.End != history.Applied {
			return fmt.Errorf("%s: %q", o.End, o.Attempts)
		}
		index = o.Index
		return nil
	})
	return index, err
}

// state is what a node has of a round's keys.
type state struct {
	raw       []byte // all of it
	revisions map[string][]wire.Revision
}

// stateOf reads the state of node i, at an index or after it.
func (c *cluster) stateOf(i int, k keys, index uint64) (*state, error) {
	s := &state{revisions: map[string][]wire.Revision{}}
	read := func(path string) ([]json.RawMessage, error) {
		items, err := c.list(i, path, index)
		for _, item := range items {
			s.raw = append(append(s.raw, item...), '\n')
		}
		return items, err
	}
	for _, path := range []string{"/fleets", "/endpoints"} {
		if _, err := read(tenantPath + path); err != nil {
			return nil, err
		}
	}
	for _, fleet := range k.fleets {
		if _, err := read(tenantPath + "/fleets/" + fleet + "/resources"); err != nil {
			return nil, err
		}
		items, err := read(tenantPath + "/fleets/" + fleet + "/revisions")
		if err != nil {
			return nil, err
		}
		for _, item := range items {
			var r wire.Revision
			if err := json.Unmarshal(item, &r); err != nil {
				return nil, err
			}
			s.revisions[fleet] = append(s.revisions[fleet], r)
		}
	}
	return s, nil
}

// list reads a collection page by page.
func (c *cluster) list(i int, path string, index uint64) (items []json.RawMessage, err error) {
	query := url.Values{"limit": {"100"}, "min_index": {strconv.FormatUint(index, 10)}}
	for {
		a, err := c.http.send(context.Background(), http.MethodGet, c.url(i)+path+"?"+query.Encode(), "", nil)
		if err != nil {
			return nil, err
		}
		if a.status != http.StatusOK {
			return nil, fmt.Errorf("%s: %d %s", path, a.status, a.body)
		}
		var page wire.List[json.RawMessage]
		if err := a.into(&page); err != nil {
			return nil, err
		}
		items = append(items, page.Items...)
		if page.Next == "" {
			return items, nil
		}
		query.Set("cursor", page.Next)
	}
}

// lastWord adds to the history what node i has in the end.
func (c *cluster) lastWord(i int, k keys, index uint64, h *history.Recorder) {
	one := newClient(clients+i, 0, func() []string { return []string{c.url(i)} }, h, c.t.Errorf)
	at := "min_index=" + strconv.FormatUint(index, 10)
	for _, service := range k.services {
		if o := one.get(context.Background(), service, at); o.End != history.Applied {
			c.t.Errorf("the end of %s: %q", service, o.Attempts)
		}
	}
	for _, fleet := range k.fleets {
		if o := one.last(context.Background(), fleet, at); o.End != history.Applied {
			c.t.Errorf("the end of %s: %q", fleet, o.Attempts)
		}
	}
}

// writers returns the revisions of a state by the operation that made them.
func (s *state) writers() map[int][]uint64 {
	found := map[int][]uint64{}
	for _, revisions := range s.revisions {
		for _, r := range revisions {
			id := writerOf(r.Message)
			found[id] = append(found[id], r.Revision)
		}
	}
	return found
}

// archived holds all writes, and the state that came of them, against Postgres.
func (c *cluster) archived(ops []*history.Operation, k keys, s *state) error {
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
	errs := []error{s.isArchived(ctx, conn)}
	times := map[int]int{}
	for query, names := range map[string][]string{
		`SELECT message FROM fleet_revisions WHERE fleet = ANY($1)`:          k.fleets,
		`SELECT content::text FROM endpoint_changes WHERE service = ANY($1)`: k.services,
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
			times[writerOf(text)]++
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
func (s *state) isArchived(ctx context.Context, conn *pgx.Conn) error {
	for fleet, revisions := range s.revisions {
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
