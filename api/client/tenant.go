package client

import (
	"context"
	"iter"
	"net/http"

	"github.com/org/envoy-control-plane/api/wire"
)

// Tenants lists all tenants by name.
func (c *Client) Tenants(ctx context.Context) iter.Seq2[wire.Tenant, error] {
	return pages[wire.Tenant](ctx, c, pathOf("tenants"), nil, rowsPerPage)
}

// GetTenant reads one tenant.
func (c *Client) GetTenant(ctx context.Context, name string) (*wire.Tenant, error) {
	var out wire.Tenant
	err := c.get(ctx, pathOf("tenants", name), nil, &out)
	return orNil(&out, err)
}

// PutTenant creates a tenant or replaces its labels.
func (c *Client) PutTenant(ctx context.Context, name string, in wire.TenantPut) (*wire.TenantWritten, error) {
	var out wire.TenantWritten
	err := c.write(ctx, http.MethodPut, pathOf("tenants", name), nil, in, &out)
	return orNil(&out, err)
}

// DeleteTenant deletes a tenant that is empty.
func (c *Client) DeleteTenant(ctx context.Context, name string) (*wire.Deleted, error) {
	return c.delete(ctx, pathOf("tenants", name), "")
}

// delete deletes the item at a path; force is "true" or empty.
func (c *Client) delete(ctx context.Context, path, force string) (*wire.Deleted, error) {
	var out wire.Deleted
	err := c.write(ctx, http.MethodDelete, path, queryOf("force", force), nil, &out)
	return orNil(&out, err)
}

// orNil returns no value beside an error.
func orNil[T any](out *T, err error) (*T, error) {
	if err != nil {
		return nil, err
	}
	return out, nil
}
