package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/api"
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// shelf is an archive of one row each that remembers what it was asked.
type shelf struct {
	asked api.ReportQuery
	err   error
	past  map[uint64]*fsm.Revision
	// inventory is what it has.
	inventory *wire.ArchiveDatabase
}

func shelved[T any](s *shelf, q api.ReportQuery, row T) (*wire.Report[T], error) {
	s.asked = q
	return &wire.Report[T]{Items: []T{row}, Next: "more", Since: time.Unix(1, 0), Until: time.Unix(2, 0)}, s.err
}

func (s *shelf) Changes(_ context.Context, q api.ReportQuery) (*wire.Report[wire.ReportedChange], error) {
	return shelved(s, q, wire.ReportedChange{Seq: 1, Index: 1, Changed: []wire.Change{}, Data: json.RawMessage("{}")})
}

func (s *shelf) Convergence(_ context.Context, q api.ReportQuery) (*wire.Report[wire.ReportedConvergence], error) {
	return shelved(s, q, wire.ReportedConvergence{Index: 1, Slowest: []wire.SlowProxy{}, Waiting: []string{}})
}

func (s *shelf) Rejections(_ context.Context, q api.ReportQuery) (*wire.Report[wire.ReportedRejections], error) {
	return shelved(s, q, wire.ReportedRejections{})
}

func (s *shelf) Proxies(_ context.Context, q api.ReportQuery) (*wire.Report[wire.ReportedProxies], error) {
	return shelved(s, q, wire.ReportedProxies{})
}

func (s *shelf) Availability(_ context.Context, q api.ReportQuery) (*wire.Report[wire.ReportedAvailability], error) {
	return shelved(s, q, wire.ReportedAvailability{})
}

func (s *shelf) Metrics(_ context.Context, q api.ReportQuery) (*wire.Report[wire.ReportedMetric], error) {
	return shelved(s, q, wire.ReportedMetric{Kind: "gauge", Labels: map[string]string{}})
}

func (s *shelf) Revision(_ context.Context, tenant, fleet string, n uint64) (*fsm.Revision, error) {
	if r, ok := s.past[n]; ok && s.err == nil {
		return r, nil
	}
	if s.err != nil {
		return nil, s.err
	}
	return nil, fsm.Refusal(fsm.CodeRevisionNotFound, "%s/%s has no %d", tenant, fleet, n)
}

func TestReports(t *testing.T) {
	s := &shelf{}
	r := newRig(t, func(_ *rig, _ *api.Config, d *api.Deps) { d.Archived = s })
	const query = "fleet=edge&limit=5&since=2026-11-01T00:00:00Z&until=2026-11-02T00:00:00Z"
	since := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for name, more := range map[string]string{
		"changes": "&kind=k&by=b", "convergence": "", "rejections": "", "proxies": "&interval=month", "availability": "",
		"metrics": "&name=server.live&proxy=p&labels=a=1&group=proxy&interval=hour",
	} {
		t.Run(name, func(t *testing.T) {
			s.err = nil
			path, needs := "/api/v1/tenants/default/reports/"+name, ""
			if name == "metrics" {
				r.get(path).refused(wire.CodeInvalidParameter)
				needs = "name=server.live&"
			}
			got := decoded[wire.Report[json.RawMessage]](r.get(path+"?"+query+more), 200)
			want := api.ReportQuery{Tenant: "default", Fleet: "edge", Limit: 5, Since: since, Until: since.AddDate(0, 0, 1)}
			switch name {
			case "changes":
				want.Kind, want.By = "k", "b"
			case "proxies":
				want.Interval = "month"
			case "metrics":
				want.Name, want.Proxy, want.Labels, want.Group, want.Interval = "server.live", "p", "a=1", "proxy", "hour"
			}
			if len(got.Items) != 1 || s.asked != want {
				t.Fatalf("%+v, asked %+v", got, s.asked)
			}
			r.get(path + "?" + needs + "cursor=" + got.Next).is(200)
			if s.asked.Cursor != "more" || s.asked.Limit != wire.DefaultLimit {
				t.Errorf("asked %+v", s.asked)
			}
			r.get("/api/v1/tenants/default/fleets?cursor=" + got.Next).refused(wire.CodeInvalidCursor)
			r.get(path + "?" + needs + "since=now").refused(wire.CodeInvalidParameter)
			r.get("/api/v1/tenants/none/reports/" + name + "?" + needs).refused(wire.CodeTenantNotFound)
			s.err = errors.New("connection refused")
			r.get(path + "?" + needs).refused(wire.CodeArchiveUnavailable)
			s.err = fsm.Refusal(fsm.CodeUnavailable, "it has not started")
			r.get(path + "?" + needs).refused(wire.CodeArchiveUnavailable)
			s.err = fsm.Refusal(fsm.CodeInvalid, "too long")
			r.get(path + "?" + needs).refused(wire.CodeInvalid)
			newRig(t).get(path + "?" + needs).refused(wire.CodeArchiveDisabled)
		})
	}
}

// TestPastRevisions: what the state has dropped is the archive's.
func TestPastRevisions(t *testing.T) {
	resource := func(name, body string) *fsmpb.Resource {
		return &fsmpb.Resource{
			TypeUrl: fsm.TypeCluster, Name: name, Body: []byte(body), Index: 3,
			Version: "3-x", Hash: fsm.ResourceHash([]byte(body), nil, 0),
		}
	}
	s := &shelf{past: map[uint64]*fsm.Revision{
		1: fsm.NewRevision(&fsmpb.Revision{Revision: 1, Index: 3, Message: "old"},
			[]*fsmpb.Resource{resource("b", `{"name":"b"}`), resource("a", `{"name":"a"}`)}),
		9: fsm.NewRevision(&fsmpb.Revision{Revision: 9, Index: 3}, nil),
	}}
	r := newRig(t, func(_ *rig, _ *api.Config, d *api.Deps) { d.Archived = s })
	const fleet = "/api/v1/tenants/default/fleets/edge"
	r.put(fleet, `{"settings": {"revision_history_limit": 1}}`).is(201)
	for _, name := range []string{"x", "y", "z"} {
		r.post(fleet+"/changes", `{"upsert": [{"@type": "`+fsm.TypeCluster+`", "name": "`+name+`"}]}`).is(201)
	}
	rev := decoded[wire.Revision](r.get(fleet+"/revisions/1"), 200)
	if rev.Message != "old" || rev.Resources["cluster"] != 2 {
		t.Errorf("revision %+v", rev)
	}
	list := decoded[wire.List[wire.Resource]](r.get(fleet+"/resources?revision=1&limit=1"), 200)
	rest := decoded[wire.List[wire.Resource]](r.get(fleet+"/resources?limit=1&cursor="+list.Next), 200)
	if len(list.Items) != 1 || list.Items[0].Name != "a" || len(rest.Items) != 1 || rest.Items[0].Name != "b" {
		t.Errorf("resources %+v, then %+v", list, rest)
	}
	if one := decoded[wire.Resource](r.get(fleet+"/resources/cluster/b?revision=1"), 200); string(one.Resource) != `{"name":"b"}` {
		t.Errorf("resource %s", one.Resource)
	}
	if diff := decoded[wire.Diff](r.get(fleet+"/revisions/3/diff?from=1"), 200); len(diff.Changed) != 5 {
		t.Errorf("diff %+v", diff)
	}
	r.get(fleet + "/revisions/2").refused(wire.CodeRevisionNotFound)
	r.get(fleet + "/revisions/9").refused(wire.CodeRevisionNotFound) // of a life of the fleet that is no more
	s.err = errors.New("connection refused")
	r.get(fleet + "/revisions/1").refused(wire.CodeArchiveUnavailable)
	r.get(fleet + "/revisions/3").is(200)
	r.get(fleet + "/revisions/4").refused(wire.CodeRevisionNotFound)
	s.err = nil
	r.delete(fleet).is(200)
	r.get(fleet + "/revisions/9").is(200)
	r.get(fleet + "/revisions/8").refused(wire.CodeFleetNotFound)
	r.get(fleet + "/resources").refused(wire.CodeFleetNotFound)
}

// TestRollbackIntoTheArchive: a revision that the state has dropped comes back as
// a change, with what it binds, and is held to what every change is.
func TestRollbackIntoTheArchive(t *testing.T) {
	past := func(kind, name, more string) *fsmpb.Resource {
		body := []byte(`{"@type": "` + kind + `", "name": "` + name + `"` + more + `}`)
		return &fsmpb.Resource{TypeUrl: kind, Name: name, Body: body, Version: "3-x", Hash: fsm.ResourceHash(body, []string{"alias"}, 0), Aliases: []string{"alias"}}
	}
	listener, needy := past(fsm.TypeListener, "l", `, "binds": ["tcp 0.0.0.0:80"]`), past(fsm.TypeCluster, "a", `, "needs": "b"`)
	s := &shelf{past: map[uint64]*fsm.Revision{
		1: fsm.NewRevision(&fsmpb.Revision{Revision: 1}, []*fsmpb.Resource{listener, needy}),
		2: fsm.NewRevision(&fsmpb.Revision{Revision: 2}, []*fsmpb.Resource{past(fsm.TypeCluster, "bad", `, "bad": "x"`)}),
		3: fsm.NewRevision(&fsmpb.Revision{Revision: 3}, []*fsmpb.Resource{past(fsm.TypeCluster, "big", `, "x": "`+strings.Repeat("x", wire.MaxBodyBytes)+`"`)}),
	}}
	r := newRig(t, func(_ *rig, _ *api.Config, d *api.Deps) { d.Archived = s })
	const fleet = "/api/v1/tenants/default/fleets/edge"
	r.put(fleet, `{"settings": {"revision_history_limit": 1}}`).is(201)
	for _, name := range []string{"u", "v", "w", "x", "y", "z"} {
		r.post(fleet+"/changes", `{"upsert": [{"@type": "`+fsm.TypeCluster+`", "name": "`+name+`"}]}`).is(201)
	}
	before, _ := r.ledger.state().Revision("default", "edge", 0)
	dry := decoded[wire.Changed](r.post(fleet+"/rollback?dry_run=true", `{"to": 1}`), 200)
	if now, _ := r.ledger.state().Revision("default", "edge", 0); !dry.DryRun || len(dry.Changed) != 8 || now != before {
		t.Fatalf("tried out: %+v", dry)
	}
	r.post(fleet+"/rollback", `{"to": 1, "expect_revision": 5}`).refused(wire.CodeRevisionConflict)
	done := decoded[wire.Changed](r.post(fleet+"/rollback", `{"to": 1}`), 201)
	now, _ := r.ledger.state().Revision("default", "edge", 0)
	got, ok := now.Resource(fsm.TypeListener, "l")
	if done.Revision != 7 || len(done.Warnings) != 1 || now.Info.GetMessage() != "rollback to 1" || !ok ||
		!slices.Equal(got.GetBinds(), []string{"tcp 0.0.0.0:80"}) || !slices.Equal(got.GetAliases(), []string{"alias"}) {
		t.Fatalf("%+v, %v, %v", done, now.Info, got)
	}
	r.post(fleet+"/rollback", `{"to": 2}`).refused(wire.CodeUnknownType)
	r.post(fleet+"/rollback", `{"to": 3}`).refused(wire.CodeBodyTooLarge)
	r.post(fleet+"/rollback", `{"to": 4}`).refused(wire.CodeRevisionNotFound)
	r.post(fleet+"/rollback", `{"to": 8}`).refused(wire.CodeRevisionNotFound)
	s.err = errors.New("connection refused")
	r.post(fleet+"/rollback", `{"to": 1}`).refused(wire.CodeArchiveUnavailable)
	r.post(fleet+"/rollback", `{"to": 7}`).is(200) // what the state has needs nobody
}
