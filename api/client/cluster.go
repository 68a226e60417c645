package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
)

// Cluster describes the control plane cluster.
func (c *Client) Cluster(ctx context.Context) (*wire.Cluster, error) {
	var out wire.Cluster
	err := c.get(ctx, pathOf("cluster"), nil, &out)
	return orNil(&out, err)
}

// Archive tells in detail how the archive does.
func (c *Client) Archive(ctx context.Context) (*wire.Archive, error) {
	var out wire.Archive
	err := c.get(ctx, pathOf("cluster", "archive"), nil, &out)
	return orNil(&out, err)
}

// TransferLeader moves leadership to a node, or to any other for "".
func (c *Client) TransferLeader(ctx context.Context, node string) (*wire.LeaderTransferred, error) {
	var out wire.LeaderTransferred
	err := c.write(ctx, http.MethodPost, pathOf("cluster", "leader"), nil, wire.LeaderTransfer{Node: node}, &out)
	return orNil(&out, err)
}

// RemoveNode takes a node out of the cluster.
func (c *Client) RemoveNode(ctx context.Context, node string) (*wire.NodeRemoved, error) {
	var out wire.NodeRemoved
	err := c.write(ctx, http.MethodDelete, pathOf("cluster", "nodes", node), nil, nil, &out)
	return orNil(&out, err)
}

// DrainNode has a node hand its xDS streams over to the others within a time (0:
// the node's own) and take none.
func (c *Client) DrainNode(ctx context.Context, node string, within time.Duration) (*wire.NodeDraining, error) {
	query := url.Values{}
	if within > 0 {
		query.Set("within", within.String())
	}
	var out wire.NodeDraining
	err := c.write(ctx, http.MethodPost, pathOf("cluster", "nodes", node, "drain"), query, nil, &out)
	return orNil(&out, err)
}

// UndrainNode has a node take streams again.
func (c *Client) UndrainNode(ctx context.Context, node string) (*wire.NodeDraining, error) {
	var out wire.NodeDraining
	err := c.write(ctx, http.MethodDelete, pathOf("cluster", "nodes", node, "drain"), nil, nil, &out)
	return orNil(&out, err)
}

// DemoteNode has a node give its vote up.
func (c *Client) DemoteNode(ctx context.Context, node string) (*wire.NodeVoting, error) {
	var out wire.NodeVoting
	err := c.write(ctx, http.MethodPost, pathOf("cluster", "nodes", node, "demote"), nil, nil, &out)
	return orNil(&out, err)
}

// UndemoteNode has a node be ready for a vote again.
func (c *Client) UndemoteNode(ctx context.Context, node string) (*wire.NodeVoting, error) {
	var out wire.NodeVoting
	err := c.write(ctx, http.MethodDelete, pathOf("cluster", "nodes", node, "demote"), nil, nil, &out)
	return orNil(&out, err)
}

// ReadOnly says whether the cluster refuses what tenants write.
func (c *Client) ReadOnly(ctx context.Context) (*wire.ReadOnly, error) {
	var out wire.ReadOnly
	err := c.get(ctx, pathOf("cluster", "read-only"), nil, &out)
	return orNil(&out, err)
}

// SetReadOnly has the cluster refuse what tenants write, or let it pass again.
func (c *Client) SetReadOnly(ctx context.Context, in wire.ReadOnlySet) (*wire.ReadOnly, error) {
	var out wire.ReadOnly
	err := c.write(ctx, http.MethodPut, pathOf("cluster", "read-only"), nil, in, &out)
	return orNil(&out, err)
}

// Finalize raises the cluster's feature level to what all nodes support.
func (c *Client) Finalize(ctx context.Context) (*wire.Finalized, error) {
	var out wire.Finalized
	err := c.write(ctx, http.MethodPost, pathOf("cluster", "finalize"), nil, nil, &out)
	return orNil(&out, err)
}
