package apitest

import (
	"context"
	"encoding/json"
	"time"

	"github.com/org/envoy-control-plane/api"
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
)

// Shelf is an archive with one row in each report, and another on a second
// page.
type Shelf struct{}

func shelved[T any](q api.ReportQuery, row T) *wire.Report[T] {
	out := &wire.Report[T]{Items: []T{row}, Since: time.Unix(1, 0), Until: time.Unix(2, 0), AsOf: time.Unix(2, 0)}
	if q.Cursor == "" {
		out.Next = "second"
	}
	return out
}

// Changes has alice's revision 7.
func (Shelf) Changes(_ context.Context, q api.ReportQuery) (*wire.Report[wire.ReportedChange], error) {
	return shelved(q, wire.ReportedChange{
		Seq: 1, Index: 1, By: "alice", Kind: "revision_created", Fleet: "edge", Changes: 2,
		Changed: []wire.Change{{Op: wire.OpAdded, Type: "cluster", Name: "web"}}, Data: json.RawMessage(`{"revision":7,"message":"why"}`),
	}), nil
}

// Convergence has revision 7, which three of five streams have.
func (Shelf) Convergence(_ context.Context, q api.ReportQuery) (*wire.Report[wire.ReportedConvergence], error) {
	return shelved(q, wire.ReportedConvergence{
		Revision: 7, Index: 1, Fleet: "edge", Expected: 5, Synced: 3, Departed: 2, Converged: true, P50MS: 12, P99MS: 250, MaxMS: 1250,
		Slowest: []wire.SlowProxy{{Proxy: "p1", Node: "n1", AfterMS: 1250}}, Waiting: []string{},
	}), nil
}

// Rejections has nine of one text.
func (Shelf) Rejections(_ context.Context, q api.ReportQuery) (*wire.Report[wire.ReportedRejections], error) {
	return shelved(q, wire.ReportedRejections{
		Fleet: "edge", Type: "listener", Detail: "no such filter", Count: 9, Proxies: 4, Proxy: "p1", FirstRevision: 3, LastRevision: 7,
	}), nil
}

// Proxies has one build.
func (Shelf) Proxies(_ context.Context, q api.ReportQuery) (*wire.Report[wire.ReportedProxies], error) {
	return shelved(q, wire.ReportedProxies{Build: "envoy/1.40.0", Connected: 12.25, Disconnected: 1}), nil
}

// Availability has one month.
func (Shelf) Availability(_ context.Context, q api.ReportQuery) (*wire.Report[wire.ReportedAvailability], error) {
	return shelved(q, wire.ReportedAvailability{
		From: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), Fleet: "edge", Availability: 0.9995, Connected: 1999, Disconnected: 1,
	}), nil
}

// Inventory has one table.
func (Shelf) Inventory(context.Context) (*wire.ArchiveDatabase, error) {
	november := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	return &wire.ArchiveDatabase{
		Cursor: &wire.ArchiveCursor{Seq: 41, Term: 2, Node: "cp-0", UpdatedAt: november}, ReportsAsOf: &november,
		Tables: []wire.ArchiveTable{{Name: "fleet_events", DefaultRows: 3, Partitions: []wire.ArchivePartition{
			{Name: "fleet_events_2026_11", From: &november, To: new(november.AddDate(0, 1, 0)), Rows: 1200, Bytes: 65536},
			{Name: "fleet_events_default", Rows: 7, Bytes: 8192},
		}}},
	}, nil
}

// Metrics has a counter of the name that was asked for.
func (Shelf) Metrics(_ context.Context, q api.ReportQuery) (*wire.Report[wire.ReportedMetric], error) {
	return shelved(q, wire.ReportedMetric{
		From: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 11, 1, 0, 1, 0, 0, time.UTC), Fleet: "edge",
		Name: q.Name, Kind: "counter", Labels: map[string]string{"class": "5"}, Proxies: 12, Count: 72, Value: 90,
	}), nil
}

// Revision has none.
func (Shelf) Revision(_ context.Context, _, _ string, n uint64) (*fsm.Revision, error) {
	return nil, fsm.Refusal(fsm.CodeRevisionNotFound, "there is no %d", n)
}
