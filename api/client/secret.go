package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"

	"github.com/org/envoy-control-plane/api/wire"
)

// Secrets lists what may be known of the tenant's secrets, by name.
func (c *Client) Secrets(ctx context.Context) iter.Seq2[wire.Secret, error] {
	return pages[wire.Secret](ctx, c, c.ofTenant("secrets"), nil, wire.MaxLimit)
}

// GetSecret reads what may be known of one secret.
func (c *Client) GetSecret(ctx context.Context, name string) (*wire.Secret, error) {
	var out wire.Secret
	err := c.get(ctx, c.ofTenant("secrets", name), nil, &out)
	return orNil(&out, err)
}

// PutSecret sets a secret to an Envoy Secret in JSON. It reaches the proxies
// that use it at once.
func (c *Client) PutSecret(ctx context.Context, name string, secret json.RawMessage) (*wire.SecretWritten, error) {
	var out wire.SecretWritten
	err := c.write(ctx, http.MethodPut, c.ofTenant("secrets", name), nil, secret, &out)
	return orNil(&out, err)
}

// DeleteSecret deletes a secret. Proxies that use it keep what they have.
func (c *Client) DeleteSecret(ctx context.Context, name string) (*wire.Deleted, error) {
	return c.delete(ctx, c.ofTenant("secrets", name), "")
}
