package api

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/org/envoy-control-plane/api/wire"
)

const (
	// maxCatchUps is how many streams of a node read the archive at a time.
	maxCatchUps = 4
	// catchUpPage is how many events they take from there at once.
	catchUpPage = 500
)

// catchUp sends what only the archive has.
func (st *stream) catchUp(ctx context.Context, out sink) error {
	for st.past != nil {
		sent := 0
		for _, ev := range st.past {
			st.reader.Seek(numberOf(ev))
			if !st.selects(ev.Kind, ev.Fleet) {
				continue
			}
			raw, err := json.Marshal(ev)
			if err != nil {
				return fmt.Errorf("encode event %d: %w", ev.Seq, err)
			}
			if err := out.event(numberOf(ev), raw); err != nil {
				return err
			}
			sent++
		}
		if err := st.flush(out, sent); err != nil {
			return err
		}
		select {
		case <-st.s.draining:
			return errStopping()
		default:
		}
		if err := st.readPast(ctx); err != nil {
			return err
		}
	}
	return nil
}

// readPast fetches the next page from the archive unless memory has all that
// is to come.
func (st *stream) readPast(ctx context.Context) error {
	st.past = nil
	at, oldest := st.reader.At(), st.reader.Oldest()
	switch {
	case at+1 >= oldest:
		return nil
	case st.s.deps.Past == nil:
		return gone(oldest)
	}
	select {
	case st.s.catchUps <- struct{}{}:
		defer func() { <-st.s.catchUps }()
	case <-ctx.Done():
		return ctx.Err()
	}
	page, through, err := st.pastPage(ctx, at)
	if err != nil {
		return st.s.archiveRefusal(st.c, err)
	}
	before := slices.IndexFunc(page, func(ev wire.Event) bool { return numberOf(ev) > through || numberOf(ev) >= oldest })
	if before < 0 {
		before = len(page)
	}
	switch st.past = page[:before]; {
	case before > 0:
		return nil
	case through+1 >= oldest:
		st.reader.Seek(oldest - 1) // of what is in between nothing is for this stream
		st.past = nil
		return nil
	case len(page) > 0:
		oldest = min(oldest, numberOf(page[0]))
	}
	return gone(oldest)
}

// pastPage returns a page of the archive, and the number up to which nothing is
// missing in it.
func (st *stream) pastPage(ctx context.Context, at uint64) (page []wire.Event, through uint64, err error) {
	if st.tenant == "" {
		return st.s.deps.Past.OwnEventsAfter(ctx, at, catchUpPage)
	}
	page, err = st.s.deps.Past.EventsAfter(ctx, st.tenant, at, catchUpPage)
	for through = at; len(page) > int(through-at) && page[through-at].TenantSeq == through+1; { // they have no holes
		through++
	}
	return page, through, err
}

func numberOf(ev wire.Event) uint64 {
	if ev.Tenant == "" {
		return ev.Seq
	}
	return ev.TenantSeq
}

func gone(oldest uint64) *wire.Problem {
	p := refuse(wire.CodeEventsGone, "events from there on are no longer kept; the oldest is %d: start with since=%d", oldest, oldest-1)
	p.Oldest = oldest
	return p
}
