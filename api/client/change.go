package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/org/envoy-control-plane/api/wire"
)

const typePrefix = "type.googleapis.com/"

// ChangeOptions say how a change set or a rollback is to be taken.
type ChangeOptions struct {
	// DryRun decides and stores nothing.
	DryRun bool
	// Force allows a fleet to end without listeners or clusters.
	Force bool
	// Content asks a dry run for the messages before and after.
	Content bool
}

func (o ChangeOptions) query() url.Values {
	return queryOf("dry_run", flag(o.DryRun), "force", flag(o.Force), "content", flag(o.Content))
}

// Change makes one revision of a fleet of a change set.
func (c *Client) Change(
	ctx context.Context, fleet string, set wire.ChangeSet, o ChangeOptions,
) (*wire.Changed, error) {
	var out wire.Changed
	err := c.write(ctx, http.MethodPost, c.ofTenant("fleets", fleet, "changes"), o.query(), set, &out)
	return orNil(&out, err)
}

// Rollback makes a new revision with the content of an older one.
func (c *Client) Rollback(
	ctx context.Context, fleet string, in wire.Rollback, o ChangeOptions,
) (*wire.Changed, error) {
	var out wire.Changed
	err := c.write(ctx, http.MethodPost, c.ofTenant("fleets", fleet, "rollback"), o.query(), in, &out)
	return orNil(&out, err)
}

// ResourceQuery selects resources of a fleet.
type ResourceQuery struct {
	// Type is a short type or a type URL; empty selects all.
	Type string
	// Revision; 0 is the current one.
	Revision uint64
}

// Resources lists a fleet's resources by type and name.
func (c *Client) Resources(ctx context.Context, fleet string, q ResourceQuery) iter.Seq2[wire.Resource, error] {
	query := queryOf("type", q.Type, "revision", number(q.Revision))
	return pages[wire.Resource](ctx, c, c.ofTenant("fleets", fleet, "resources"), query, bodiesPerPage)
}

// GetResource reads one resource; revision 0 is the current one.
func (c *Client) GetResource(
	ctx context.Context, fleet string, key wire.ResourceKey, revision uint64,
) (*wire.Resource, error) {
	path := c.ofTenant("fleets", fleet, "resources", strings.TrimPrefix(key.Type, typePrefix), key.Name)
	var out wire.Resource
	err := c.get(ctx, path, queryOf("revision", number(revision)), &out)
	return orNil(&out, err)
}

// Revisions lists a fleet's revisions, newest first.
func (c *Client) Revisions(ctx context.Context, fleet string) iter.Seq2[wire.Revision, error] {
	return pages[wire.Revision](ctx, c, c.ofTenant("fleets", fleet, "revisions"), nil, bodiesPerPage)
}

// GetRevision reads one revision.
func (c *Client) GetRevision(ctx context.Context, fleet string, revision uint64) (*wire.Revision, error) {
	var out wire.Revision
	err := c.get(ctx, c.revision(fleet, revision), nil, &out)
	return orNil(&out, err)
}

// DiffQuery selects what a revision is compared with, and how.
type DiffQuery struct {
	// From is the revision to compare with; nil: the one before.
	From *uint64
	// Content asks for the messages before and after.
	Content bool
}

// Diff compares a revision with another one.
func (c *Client) Diff(ctx context.Context, fleet string, to uint64, q DiffQuery) (*wire.Diff, error) {
	query := queryOf("content", flag(q.Content))
	if q.From != nil {
		query.Set("from", strconv.FormatUint(*q.From, 10))
	}
	var out wire.Diff
	err := c.get(ctx, c.revision(fleet, to)+"/diff", query, &out)
	return orNil(&out, err)
}

func (c *Client) revision(fleet string, n uint64) string {
	return c.ofTenant("fleets", fleet, "revisions", strconv.FormatUint(n, 10))
}
