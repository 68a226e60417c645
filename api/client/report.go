package client

import (
	"context"
	"net/url"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
)

// ReportQuery bounds a report about the tenant; what is empty selects all, and
// the usual time.
type ReportQuery struct {
	Fleet string
	// Kind and By select changes, Interval how proxies ("day" or "month") and metrics
	// ("minute", "hour" or "day") are summed.
	Kind, By, Interval string
	// Name of a metric, which its report needs. Proxy and Labels ("a=1,b=2") select of
	// it, Group ("fleet" or "proxy") says whose rows are shown.
	Name, Proxy, Labels, Group string
	// Since is inclusive, Until exclusive.
	Since, Until time.Time
	// Limit of the page, at most wire.MaxLimit; 0 means wire.DefaultLimit.
	Limit int
	// Cursor is the Next of the page before.
	Cursor string
}

func (q ReportQuery) values() url.Values {
	return queryOf("fleet", q.Fleet, "kind", q.Kind, "by", q.By, "interval", q.Interval,
		"name", q.Name, "proxy", q.Proxy, "labels", q.Labels, "group", q.Group,
		"since", instant(q.Since), "until", instant(q.Until), "limit", pageLimit(q.Limit), "cursor", q.Cursor)
}

func report[T any](ctx context.Context, c *Client, name string, q ReportQuery) (*wire.Report[T], error) {
	var out wire.Report[T]
	err := c.get(ctx, c.ofTenant("reports", name), q.values(), &out)
	return orNil(&out, err)
}

// ReportChanges reads one page of who changed what and when, newest first.
func (c *Client) ReportChanges(ctx context.Context, q ReportQuery) (*wire.Report[wire.ReportedChange], error) {
	return report[wire.ReportedChange](ctx, c, "changes", q)
}

// ReportConvergence reads one page of how long revisions took to reach their
// proxies, newest first.
func (c *Client) ReportConvergence(ctx context.Context, q ReportQuery) (*wire.Report[wire.ReportedConvergence], error) {
	return report[wire.ReportedConvergence](ctx, c, "convergence", q)
}

// ReportRejections reads one page of what proxies rejected, most first.
func (c *Client) ReportRejections(ctx context.Context, q ReportQuery) (*wire.Report[wire.ReportedRejections], error) {
	return report[wire.ReportedRejections](ctx, c, "rejections", q)
}

// ReportProxies reads one page of how many proxies there were, by build, newest
// first.
func (c *Client) ReportProxies(ctx context.Context, q ReportQuery) (*wire.Report[wire.ReportedProxies], error) {
	return report[wire.ReportedProxies](ctx, c, "proxies", q)
}

// ReportAvailability reads one page of fleets' availability by month, newest
// first.
func (c *Client) ReportAvailability(ctx context.Context, q ReportQuery) (*wire.Report[wire.ReportedAvailability], error) {
	return report[wire.ReportedAvailability](ctx, c, "availability", q)
}

// ReportMetrics reads one page of what proxies have measured of a metric, newest
// first.
func (c *Client) ReportMetrics(ctx context.Context, q ReportQuery) (*wire.Report[wire.ReportedMetric], error) {
	return report[wire.ReportedMetric](ctx, c, "metrics", q)
}
