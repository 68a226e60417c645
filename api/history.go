package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// listHistory shows a tenant's events, newest first: from the archive, or
// without one those that the state still holds.
func listHistory(s *Server, c *call, st *fsm.State) (any, error) {
	if _, err := tenantOf(c, st); err != nil {
		return nil, err
	}
	kind := "history of memory"
	if s.deps.History != nil {
		kind = "history of the archive"
	}
	p, err := c.page(kind)
	if err != nil {
		return nil, err
	}
	q := HistoryQuery{
		Tenant: c.param("tenant"), Fleet: c.query.Get("fleet"), Kind: c.query.Get("kind"),
		By: c.query.Get("by"), Cursor: p.after, Limit: p.limit,
	}
	if q.Since, err = c.instant("since"); err != nil {
		return nil, err
	}
	if q.Until, err = c.instant("until"); err != nil {
		return nil, err
	}
	if s.deps.History == nil {
		return recent(st, q, p)
	}
	page, err := s.deps.History.History(c.ctx, q)
	if err != nil {
		return nil, s.archiveRefusal(c, err)
	}
	out := wire.History{Items: page.Events, Source: wire.SourceArchive}
	if out.Items == nil {
		out.Items = []wire.Event{}
	}
	if page.Next != "" {
		out.Next = p.next(page.Next)
	}
	return out, nil
}

// archiveRefusal says why the archive has not answered.
func (s *Server) archiveRefusal(c *call, err error) error {
	if code := fsm.CodeOf(err); code != "" && code != fsm.CodeUnavailable || c.ctx.Err() != nil {
		return err
	}
	s.log.Warn("archive does not answer", "request_id", c.id, "error", err)
	return refuse(wire.CodeArchiveUnavailable, "the archive does not answer")
}

// recent answers from the events in the state.
func recent(st *fsm.State, q HistoryQuery, p page) (wire.History, error) {
	before, _ := strconv.ParseUint(q.Cursor, 10, 64) // "" is from the newest
	var events []*fsmpb.Event
	for ev := range st.Events(0) {
		if before > 0 && ev.GetSeq() >= before {
			break
		}
		if q.selects(ev) {
			events = append(events, ev)
		}
	}
	slices.Reverse(events)
	key := func(ev *fsmpb.Event) string { return strconv.FormatUint(ev.GetSeq(), 10) }
	rows, next := take(p, slices.Values(events), key, nil)
	out := wire.History{Items: make([]wire.Event, len(rows)), Next: next, Source: wire.SourceMemory}
	for i, ev := range rows {
		var err error
		if out.Items[i], err = eventJSON(ev); err != nil {
			return out, err
		}
	}
	return out, nil
}

// selects reports whether an event is asked for. Since is inclusive, until is
// not.
func (q HistoryQuery) selects(ev *fsmpb.Event) bool {
	at := time.Unix(0, ev.GetAt())
	return ev.GetTenant() == q.Tenant &&
		(q.Fleet == "" || ev.GetFleet() == q.Fleet) &&
		(q.By == "" || ev.GetBy() == q.By) &&
		(q.Kind == "" || fsm.EventKind(ev) == q.Kind) &&
		(q.Since.IsZero() || !at.Before(q.Since)) &&
		(q.Until.IsZero() || at.Before(q.Until))
}

// encodeEvent makes the JSON of an event in a stream: as history shows it.
func encodeEvent(ev *fsmpb.Event) ([]byte, error) {
	j, err := eventJSON(ev)
	if err != nil {
		return nil, err
	}
	return json.Marshal(j)
}

func eventJSON(ev *fsmpb.Event) (wire.Event, error) {
	data, err := fsm.EventData(ev)
	if err != nil {
		return wire.Event{}, fmt.Errorf("show event %d: %w", ev.GetSeq(), err)
	}
	return wire.Event{
		Seq: ev.GetSeq(), TenantSeq: ev.GetTenantSeq(), Index: ev.GetIndex(), At: instantJSON(ev.GetAt()),
		Tenant: ev.GetTenant(), Fleet: ev.GetFleet(), Kind: fsm.EventKind(ev), By: ev.GetBy(),
		Data: json.RawMessage(data),
	}, nil
}
