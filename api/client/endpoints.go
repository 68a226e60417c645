package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"

	"github.com/org/envoy-control-plane/api/wire"
)

// EndpointsOf lists the tenant's endpoints by service.
func (c *Client) EndpointsOf(ctx context.Context) iter.Seq2[wire.Endpoints, error] {
	return pages[wire.Endpoints](ctx, c, c.ofTenant("endpoints"), nil, bodiesPerPage)
}

// GetEndpoints reads the endpoints of one service.
func (c *Client) GetEndpoints(ctx context.Context, service string) (*wire.Endpoints, error) {
	var out wire.Endpoints
	err := c.get(ctx, c.ofTenant("endpoints", service), nil, &out)
	return orNil(&out, err)
}

// PutEndpoints replaces the endpoints of a service by a ClusterLoadAssignment
// in JSON. They reach the proxies at once.
func (c *Client) PutEndpoints(
	ctx context.Context, service string, assignment json.RawMessage,
) (*wire.EndpointsWritten, error) {
	var out wire.EndpointsWritten
	err := c.write(ctx, http.MethodPut, c.ofTenant("endpoints", service), nil, assignment, &out)
	return orNil(&out, err)
}

// DeleteEndpoints deletes the endpoints of a service.
func (c *Client) DeleteEndpoints(ctx context.Context, service string) (*wire.Deleted, error) {
	return c.delete(ctx, c.ofTenant("endpoints", service), "")
}
