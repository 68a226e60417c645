package api

import (
	"encoding/base64"
	"iter"
	"strings"

	"github.com/org/envoy-control-plane/api/wire"
)

// page is what part of a list a request wants.
type page struct {
	kind  string
	limit int
	// after is the key of the last item of the page before.
	after string
}

// page reads limit and cursor. A cursor holds the kind of list that gave it,
// and the last key.
func (c *call) page(kind string) (page, error) {
	p := page{kind: kind, limit: wire.DefaultLimit}
	if c.query.Has("limit") {
		n, err := c.number("limit")
		if err != nil {
			return p, err
		}
		if n == 0 || n > wire.MaxLimit {
			return p, refuseParameter("limit", "it is 1 to %d", wire.MaxLimit)
		}
		p.limit = int(n)
	}
	cursor := c.query.Get("cursor")
	if cursor == "" {
		return p, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	of, after, found := strings.Cut(string(raw), "\x00")
	if err != nil || !found || of != kind {
		return p, refuse(wire.CodeInvalidCursor, "the cursor is not from a list of %s", kind)
	}
	p.after = after
	return p, nil
}

// next returns the cursor of the page after a key.
func (p page) next(key string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(p.kind + "\x00" + key))
}

// paged takes a page of rows that a filter, nil for all, lets through.
func paged[Row, Item any](
	p page, rows iter.Seq[Row], key func(Row) string, keep func(Row) bool, item func(Row) Item,
) wire.List[Item] {
	taken, next := take(p, rows, key, keep)
	list := wire.List[Item]{Items: make([]Item, len(taken)), Next: next}
	for i, row := range taken {
		list.Items[i] = item(row)
	}
	return list
}

// take returns a page of rows and the cursor of the next one.
func take[Row any](p page, rows iter.Seq[Row], key func(Row) string, keep func(Row) bool) ([]Row, string) {
	var taken []Row
	for row := range rows {
		if keep != nil && !keep(row) {
			continue
		}
		if len(taken) == p.limit {
			return taken, p.next(key(taken[len(taken)-1]))
		}
		taken = append(taken, row)
	}
	return taken, ""
}
