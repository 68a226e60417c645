package client_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/api"
	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
)

// shelf is an archive with one row in each report, and another on a second
// page.
type shelf struct{}

func shelved[T any](q api.ReportQuery, row T) (*wire.Report[T], error) {
	out := &wire.Report[T]{Items: []T{row}, Since: time.Unix(1, 0), Until: time.Unix(2, 0), AsOf: time.Unix(2, 0)}
	if q.Cursor == "" {
		out.Next = "second"
	}
	return out, nil
}

func (shelf) Changes(_ context.Context, q api.ReportQuery) (*wire.Report[wire.ReportedChange], error) {
	return shelved(q, wire.ReportedChange{
		Seq: 1, Index: 1, By: "alice", Kind: "revision_created", Fleet: "edge", Changes: 2,
		Changed: []wire.Change{{Op: wire.OpAdded, Type: "cluster", Name: "web"}}, Data: json.RawMessage(`{"revision":7,"message":"why"}`),
	})
}

func (shelf) Convergence(_ context.Context, q api.ReportQuery) (*wire.Report[wire.ReportedConvergence], error) {
	return shelved(q, wire.ReportedConvergence{
		Revision: 7, Index: 1, Fleet: "edge", Expected: 5, Synced: 3, Departed: 2, Converged: true, P50MS: 12, P99MS: 250, MaxMS: 1250,
		Slowest: []wire.SlowProxy{{Proxy: "p1", Node: "n1", AfterMS: 1250}}, Waiting: []string{},
	})
}

func (shelf) Rejections(_ context.Context, q api.ReportQuery) (*wire.Report[wire.ReportedRejections], error) {
	return shelved(q, wire.ReportedRejections{
		Fleet: "edge", Type: "listener", Detail: "no such filter", Count: 9, Proxies: 4, Proxy: "p1", FirstRevision: 3, LastRevision: 7,
	})
}

func (shelf) Proxies(_ context.Context, q api.ReportQuery) (*wire.Report[wire.ReportedProxies], error) {
	return shelved(q, wire.ReportedProxies{Build: "envoy/1.40.0", Connected: 12.25, Disconnected: 1})
}

func (shelf) Availability(_ context.Context, q api.ReportQuery) (*wire.Report[wire.ReportedAvailability], error) {
	return shelved(q, wire.ReportedAvailability{
		From: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), Fleet: "edge", Availability: 0.9995, Connected: 1999, Disconnected: 1,
	})
}

func (shelf) Inventory(context.Context) (*wire.ArchiveDatabase, error) {
	november := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	return &wire.ArchiveDatabase{
		Cursor: &wire.ArchiveCursor{Seq: 41, Term: 2, Node: "cp-0", UpdatedAt: november}, ReportsAsOf: &november,
		Tables: []wire.ArchiveTable{{Name: "fleet_events", DefaultRows: 3, Partitions: []wire.ArchivePartition{
			{Name: "fleet_events_2026_11", From: &november, To: new(november.AddDate(0, 1, 0)), Rows: 1200, Bytes: 65536},
			{Name: "fleet_events_default", Rows: 7, Bytes: 8192},
		}}},
	}, nil
}

func (shelf) Metrics(_ context.Context, q api.ReportQuery) (*wire.Report[wire.ReportedMetric], error) {
	return shelved(q, wire.ReportedMetric{
		From: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 11, 1, 0, 1, 0, 0, time.UTC), Fleet: "edge",
		Name: q.Name, Kind: "counter", Labels: map[string]string{"class": "5"}, Proxies: 12, Count: 72, Value: 90,
	})
}

func (shelf) Revision(_ context.Context, _, _ string, n uint64) (*fsm.Revision, error) {
	return nil, fsm.Refusal(fsm.CodeRevisionNotFound, "there is no %d", n)
}

// wantReports reads both pages of each report.
func wantReports(t *testing.T, c *client.Client) {
	t.Helper()
	now := time.Now()
	q := client.ReportQuery{
		Fleet: "edge", Kind: "revision_created", By: "alice", Since: now.Add(-time.Hour), Until: now, Limit: 1,
	}
	wantPages(t, c, q, (*client.Client).ReportChanges)
	q.Kind, q.By = "", ""
	wantPages(t, c, q, (*client.Client).ReportConvergence)
	wantPages(t, c, q, (*client.Client).ReportRejections)
	wantPages(t, c, q, (*client.Client).ReportAvailability)
	q.Interval = "month"
	wantPages(t, c, q, (*client.Client).ReportProxies)
	q.Interval, q.Name, q.Proxy, q.Labels, q.Group = "hour", "cluster.upstream_rq_total", "p1", "class=5", "proxy"
	wantPages(t, c, q, (*client.Client).ReportMetrics)
}

func wantPages[T any](
	t *testing.T, c *client.Client, q client.ReportQuery,
	ask func(*client.Client, context.Context, client.ReportQuery) (*wire.Report[T], error),
) {
	t.Helper()
	first, err := ask(c, t.Context(), q)
	if err != nil || len(first.Items) != 1 || first.Next == "" || first.AsOf.IsZero() {
		t.Fatalf("%+v, %v", first, err)
	}
	q.Cursor = first.Next
	if second, err := ask(c, t.Context(), q); err != nil || len(second.Items) != 1 || second.Next != "" {
		t.Fatalf("%+v, %v", second, err)
	}
}
