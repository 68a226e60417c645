package archive

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Columns of the tables, in the order of the rows.
var (
	eventColumns = []string{
		"cluster", "epoch", "seq", "tenant", "tenant_seq", "log_index", "at", "fleet", "kind", "by", "data",
	}
	revisionColumns = []string{
		"cluster", "epoch", "seq", "log_index", "at", "tenant", "fleet", "revision", "by", "message", "rollback_of", "changes",
	}
	resourceColumns = []string{"cluster", "epoch", "seq", "op", "type", "name", "version", "content", "body", "aliases", "ttl_ms"}
	endpointColumns = []string{"cluster", "epoch", "seq", "at", "tenant", "service", "version", "content", "body"}
)

// rowSet is what a batch's events come to, by table.
type rowSet struct {
	events, revisions, resources, endpoints []row
}

// row makes a row's values when they are sent, while Postgres takes in those before
// it: making their JSON costs as much as storing them.
type row func() []any

type jsonOf func(typeURL string, body []byte) (json.RawMessage, error)

// rows turns events into rows. It never fails: what cannot be rendered is
// stored without its JSON.
func (s *session) rows(events []*fsmpb.Event) *rowSet {
	r := &rowSet{events: make([]row, 0, len(events))}
	for _, ev := range events {
		r.events = append(r.events, func() []any { return s.event(ev, s.data(ev)) })
		switch d := ev.Data.(type) {
		case *fsmpb.Event_RevisionCreated:
			s.revision(r, ev, d.RevisionCreated)
		case *fsmpb.Event_EndpointsPut:
			s.endpoints(r, ev, d.EndpointsPut.GetService(), d.EndpointsPut.GetVersion())
		case *fsmpb.Event_EndpointsDeleted:
			s.endpoints(r, ev, d.EndpointsDeleted.GetService(), "")
		}
	}
	return r
}

func (s *session) event(ev *fsmpb.Event, data json.RawMessage) []any {
	return []any{
		s.clusterID, s.epoch, int64(ev.Seq), clean(ev.Tenant), int64(ev.TenantSeq), int64(ev.Index),
		timeOf(ev.At), clean(ev.Fleet), fsm.EventKind(ev), clean(ev.By), data,
	}
}

func (s *session) revision(r *rowSet, ev *fsmpb.Event, d *fsmpb.RevisionCreated) {
	r.revisions = append(r.revisions, func() []any {
		return []any{
			s.clusterID, s.epoch, int64(ev.Seq), int64(ev.Index), timeOf(ev.At), clean(ev.Tenant), clean(ev.Fleet),
			int64(d.GetRevision()), clean(ev.By), clean(d.GetMessage()), int64(d.GetRollbackOf()), int32(len(d.GetChanged())),
		}
	})
	type key struct{ url, name string }
	stored := make(map[key]*fsmpb.Resource, len(ev.Resources))
	for _, res := range ev.Resources {
		stored[key{res.TypeUrl, res.Name}] = res
	}
	for _, c := range d.GetChanged() {
		res := stored[key{c.TypeUrl, c.Name}]
		r.resources = append(r.resources, func() []any {
			return []any{
				s.clusterID, s.epoch, int64(ev.Seq), opName(c.Op), clean(c.TypeUrl), clean(c.Name), c.Version,
				s.content(c.TypeUrl, res.GetBody(), res != nil), res.GetBody(), aliases(res), res.GetTtlMs(),
			}
		})
	}
}

// aliases are never NULL, which says that a row is of a node that kept none.
func aliases(res *fsmpb.Resource) []string {
	out := []string{}
	for _, a := range res.GetAliases() {
		out = append(out, clean(a))
	}
	return out
}

func (s *session) endpoints(r *rowSet, ev *fsmpb.Event, service, version string) {
	r.endpoints = append(r.endpoints, func() []any {
		return []any{
			s.clusterID, s.epoch, int64(ev.Seq), timeOf(ev.At), clean(ev.Tenant), clean(service), version,
			s.content(fsm.TypeEndpoints, ev.Endpoints, version != ""), ev.Endpoints,
		}
	})
}

// data is an event's data, as jsonb takes it.
func (s *session) data(ev *fsmpb.Event) json.RawMessage {
	data, err := fsm.EventData(ev)
	if err == nil && !s.plainly {
		return cleanJSON(data)
	}
	held := map[string]string{"text": clean(string(data))}
	if err != nil {
		held["error"] = clean(err.Error())
	}
	text, _ := json.Marshal(held) // strings always marshal
	return text
}

// content is a resource as JSON, nil when there is none to be had.
func (s *session) content(typeURL string, body []byte, exists bool) json.RawMessage {
	if !exists || s.json == nil || s.plainly {
		return nil
	}
	out, err := s.json(typeURL, body)
	if err != nil {
		s.log.Warn("archive: a resource has no JSON, its bytes are stored", "type", typeURL, "error", err)
		return nil
	}
	return cleanJSON(out)
}

func opName(op fsmpb.Change_Op) string {
	return strings.ToLower(op.String())
}

// timeOf is a log time as Postgres keeps it, in microseconds.
func timeOf(ns int64) time.Time { return time.Unix(0, ns).UTC().Truncate(time.Microsecond) }

// clean replaces what Postgres' text cannot hold.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// cleanJSON replaces the escaped zero character, which jsonb cannot hold.
func cleanJSON(in json.RawMessage) json.RawMessage {
	if !bytes.Contains(in, []byte(`\u0000`)) {
		return in
	}
	out := bytes.Clone(in)
	for i := 0; i+1 < len(out); i++ {
		if out[i] != '\\' {
			continue
		}
		if i++; out[i] == 'u' && bytes.HasPrefix(out[i+1:], []byte("0000")) {
			copy(out[i+1:], "fffd")
		}
	}
	return out
}
