package client

import (
	"context"
	"net/url"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
)

// HistoryQuery selects events of the tenant; what is empty selects all.
type HistoryQuery struct {
	Fleet, Kind, By string
	// Since and Until bound the time of an event.
	Since, Until time.Time
	// Limit of the page, at most wire.MaxLimit; 0 means wire.DefaultLimit.
	Limit int
	// Cursor is the Next of the page before.
	Cursor string
}

func (q HistoryQuery) values() url.Values {
	return queryOf("fleet", q.Fleet, "kind", q.Kind, "by", q.By, "since", instant(q.Since), "until", instant(q.Until),
		"limit", pageLimit(q.Limit), "cursor", q.Cursor)
}

// History reads one page of the tenant's events, newest first.
func (c *Client) History(ctx context.Context, q HistoryQuery) (*wire.History, error) {
	var out wire.History
	err := c.get(ctx, c.ofTenant("history"), q.values(), &out)
	return orNil(&out, err)
}
