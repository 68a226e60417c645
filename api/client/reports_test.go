package client_test

import (
	"context"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/api/client"
	"github.com/org/envoy-control-plane/api/wire"
)

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
