package client

import (
	"context"
	"iter"
	"net/http"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
)

// MaxWait is the longest that a node holds the answer to a FleetStatus back.
const MaxWait = 5 * time.Minute

// Fleets lists the tenant's fleets by name.
func (c *Client) Fleets(ctx context.Context) iter.Seq2[wire.Fleet, error] {
	return pages[wire.Fleet](ctx, c, c.ofTenant("fleets"), nil, rowsPerPage)
}

// GetFleet reads one fleet.
func (c *Client) GetFleet(ctx context.Context, name string) (*wire.Fleet, error) {
	var out wire.Fleet
	err := c.get(ctx, c.ofTenant("fleets", name), nil, &out)
	return orNil(&out, err)
}

// PutFleet creates a fleet or replaces its labels and settings.
func (c *Client) PutFleet(ctx context.Context, name string, in wire.FleetPut) (*wire.FleetWritten, error) {
	var out wire.FleetWritten
	err := c.write(ctx, http.MethodPut, c.ofTenant("fleets", name), nil, in, &out)
	return orNil(&out, err)
}

// DeleteFleet deletes a fleet; one with connected proxies only by force. They
// keep the configuration that they have.
func (c *Client) DeleteFleet(ctx context.Context, name string, force bool) (*wire.Deleted, error) {
	return c.delete(ctx, c.ofTenant("fleets", name), flag(force))
}

// StatusQuery is about one revision.
type StatusQuery struct {
	// Revision; 0 is the current one.
	Revision uint64
	// Wait holds the answer back until every connected proxy is synced, one
	// has rejected the revision, or the time is up. At most MaxWait.
	Wait time.Duration
}

// FleetStatus says how far a fleet's proxies are with a revision.
func (c *Client) FleetStatus(ctx context.Context, fleet string, q StatusQuery) (*wire.FleetStatus, error) {
	r := &request{method: http.MethodGet, path: c.ofTenant("fleets", fleet, "status"), wait: min(q.Wait, MaxWait)}
	r.query = queryOf("revision", number(q.Revision))
	if r.wait > 0 {
		r.query.Set("wait", r.wait.String())
	}
	var out wire.FleetStatus
	err := c.do(ctx, r, &out)
	return orNil(&out, err)
}
