package load

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/deploy/history"
)

// PutFleet makes a fleet that forgets no revision.
func (c *Client) PutFleet(ctx context.Context, node, name string) error {
	body, err := json.Marshal(map[string]any{"settings": map[string]any{"revision_history_limit": 10_000}})
	if err != nil {
		return err
	}
	a, err := c.Send(ctx, http.MethodPut, node+TenantPath+"/fleets/"+name, "put "+name, body)
	if err == nil && a.Status/100 != 2 {
		err = fmt.Errorf("put fleet %s: %d: %s", name, a.Status, a.Body)
	}
	return err
}

// Mark makes a write and returns its index. It takes what is in the client's
// history, which nobody else may use.
func (c *Client) Mark(ctx context.Context) (index uint64, err error) {
	c.Put(ctx, "marker")
	ops := c.History.Take()
	o := ops[len(ops)-1]
	if o.End != history.Applied {
		return 0, fmt.Errorf("%s: %q", o.End, o.Attempts)
	}
	return o.Index, nil
}

// State is what a node has of a round's keys.
type State struct {
	lines []string // all of it, but for what proxies do
	// Revisions of each fleet.
	Revisions map[string][]wire.Revision
}

// State reads that of a node, at an index or after it.
func (c *Client) State(ctx context.Context, node string, k Keys, index uint64) (*State, error) {
	s := &State{Revisions: map[string][]wire.Revision{}}
	read := func(path string) ([]json.RawMessage, error) {
		items, err := c.list(ctx, node, path, index)
		for _, item := range items {
			s.lines = append(s.lines, string(item))
		}
		return items, err
	}
	if _, err := read(TenantPath + "/fleets"); err != nil {
		return nil, err
	}
	for i, line := range s.lines {
		s.lines[i] = proxies.ReplaceAllString(line, "")
	}
	if _, err := read(TenantPath + "/endpoints"); err != nil {
		return nil, err
	}
	for _, fleet := range k.Fleets {
		if _, err := read(TenantPath + "/fleets/" + fleet + "/resources"); err != nil {
			return nil, err
		}
		items, err := read(TenantPath + "/fleets/" + fleet + "/revisions")
		if err != nil {
			return nil, err
		}
		for _, item := range items {
			var r wire.Revision
			if err := json.Unmarshal(item, &r); err != nil {
				return nil, err
			}
			s.Revisions[fleet] = append(s.Revisions[fleet], r)
		}
	}
	return s, nil
}

// proxies are a fleet's, which come and go whoever writes.
var proxies = regexp.MustCompile(`,"(proxies|connected)":\d+`)

// Difference is the first that there is between two states, in words; "" for
// none.
func (s *State) Difference(other *State) string {
	for i := range max(len(s.lines), len(other.lines)) {
		var a, b string
		if i < len(s.lines) {
			a = s.lines[i]
		}
		if i < len(other.lines) {
			b = other.lines[i]
		}
		if a != b {
			return fmt.Sprintf("%q and %q", a, b)
		}
	}
	return ""
}

// list reads a collection page by page.
func (c *Client) list(ctx context.Context, node, path string, index uint64) (items []json.RawMessage, err error) {
	query := url.Values{"limit": {"100"}, "min_index": {strconv.FormatUint(index, 10)}}
	for {
		a, err := c.Send(ctx, http.MethodGet, node+path+"?"+query.Encode(), "", nil)
		if err != nil {
			return nil, err
		}
		if a.Status != http.StatusOK {
			return nil, fmt.Errorf("%s: %d %s", path, a.Status, a.Body)
		}
		var page wire.List[json.RawMessage]
		if err := a.Into(&page); err != nil {
			return nil, err
		}
		items = append(items, page.Items...)
		if page.Next == "" {
			return items, nil
		}
		query.Set("cursor", page.Next)
	}
}

// Writers returns the revisions of a state by the operation that made them.
func (s *State) Writers() map[int][]uint64 {
	found := map[int][]uint64{}
	for _, revisions := range s.Revisions {
		for _, r := range revisions {
			id := WriterOf(r.Message)
			found[id] = append(found[id], r.Revision)
		}
	}
	return found
}

// LastWords adds to the history what the client's node has in the end.
func (c *Client) LastWords(ctx context.Context, k Keys, index uint64) {
	at := "min_index=" + strconv.FormatUint(index, 10)
	for _, service := range k.Services {
		if o := c.get(ctx, service, at); o.End != history.Applied {
			c.Broken("the end of %s: %q", service, o.Attempts)
		}
	}
	for _, fleet := range k.Fleets {
		if o := c.last(ctx, fleet, at); o.End != history.Applied {
			c.Broken("the end of %s: %q", fleet, o.Attempts)
		}
	}
}
