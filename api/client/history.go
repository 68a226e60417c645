package client

import (
	"context"
	"net/url"
	"strconv"
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
	values := queryOf("fleet", q.Fleet, "kind", q.Kind, "by", q.By, "cursor", q.Cursor)
	if !q.Since.IsZero() {
		values.Set("since", q.Since.UTC().Format(time.RFC3339Nano))
	}
	if !q.Until.IsZero() {
		values.Set("until", q.Until.UTC().Format(time.RFC3339Nano))
	}
	if q.Limit > 0 {
		values.Set("limit", strconv.Itoa(min(q.Limit, wire.MaxLimit)))
	}
	return values
}

// History reads one page of the tenant's events, newest first.
func (c *Client) History(ctx context.Context, q HistoryQuery) (*wire.History, error) {
	var out wire.History
	err := c.get(ctx, c.ofTenant("history"), q.values(), &out)
	return orNil(&out, err)
}
