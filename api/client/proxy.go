package client

import (
	"context"
	"iter"
	"net/http"

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

// ProxyConfig says what a proxy should have and, where known, what it has;
// with content also the messages.
func (c *Client) ProxyConfig(ctx context.Context, id string, content bool) (*wire.ProxyConfig, error) {
	var out wire.ProxyConfig
	query := queryOf("content", "false")
	if content {
		query = nil
	}
	err := c.get(ctx, c.ofTenant("proxies", id, "config"), query, &out)
	return orNil(&out, err)
}

// RetryProxy has what a proxy rejected, of one type or of all for "", sent to
// it once more.
func (c *Client) RetryProxy(ctx context.Context, id, typ string) (*wire.Retried, error) {
	var out wire.Retried
	err := c.write(ctx, http.MethodPost, c.ofTenant("proxies", id, "retry"), queryOf("type", typ), nil, &out)
	return orNil(&out, err)
}
