package client

import (
	"context"
	"iter"

	"github.com/org/envoy-control-plane/api/wire"
)

// ProxyQuery selects proxies; what is empty selects all.
type ProxyQuery struct {
	Fleet string
	// Status is wire.StatusConnected or wire.StatusDisconnected.
	Status string
}

// Proxies lists the tenant's proxies by id.
func (c *Client) Proxies(ctx context.Context, q ProxyQuery) iter.Seq2[wire.Proxy, error] {
	return pages[wire.Proxy](ctx, c, c.ofTenant("proxies"), queryOf("fleet", q.Fleet, "status", q.Status), rowsPerPage)
}

// GetProxy reads one proxy.
func (c *Client) GetProxy(ctx context.Context, id string) (*wire.Proxy, error) {
	var out wire.Proxy
	err := c.get(ctx, c.ofTenant("proxies", id), nil, &out)
	return orNil(&out, err)
}

// DeleteProxy forgets a proxy that is not connected.
func (c *Client) DeleteProxy(ctx context.Context, id string) (*wire.Deleted, error) {
	return c.delete(ctx, c.ofTenant("proxies", id), "")
}
