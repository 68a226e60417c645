package client

import (
	"context"
	"net/http"

	"github.com/org/envoy-control-plane/api/wire"
)

// Health asks whether the server asked first is alive. It makes one attempt.
func (c *Client) Health(ctx context.Context) (*wire.Health, error) {
	var out wire.Health
	err := c.do(ctx, &request{method: http.MethodGet, path: "/health", stateless: true, once: true}, &out)
	return orNil(&out, err)
}

// Ready asks the server asked first whether it serves, and why not. It makes
// one attempt; not being ready is an answer, not an error.
func (c *Client) Ready(ctx context.Context) (*wire.Ready, error) {
	var out wire.Ready
	err := c.do(ctx, &request{method: http.MethodGet, path: "/ready", stateless: true, once: true}, &out)
	return orNil(&out, err)
}

// Version reads the build of a node.
func (c *Client) Version(ctx context.Context) (*wire.Version, error) {
	var out wire.Version
	err := c.do(ctx, &request{method: http.MethodGet, path: "/version", stateless: true}, &out)
	return orNil(&out, err)
}

// OpenAPI reads the description of the API that a node serves.
func (c *Client) OpenAPI(ctx context.Context) ([]byte, error) {
	var out []byte
	err := c.do(ctx, &request{method: http.MethodGet, path: pathOf("openapi.json"), stateless: true}, &out)
	return out, err
}
