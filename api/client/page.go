package client

import (
	"context"
	"iter"
	"maps"
	"net/url"
	"strconv"
	"time"

	"github.com/org/envoy-control-plane/api/wire"
)

// Page sizes: of rows that are small, and of those that hold an Envoy message.
const (
	rowsPerPage   = 500
	bodiesPerPage = 100
)

// Collect reads a list to its end. On an error it returns what came before.
func Collect[T any](items iter.Seq2[T, error]) ([]T, error) {
	var all []T
	for item, err := range items {
		if err != nil {
			return all, err
		}
		all = append(all, item)
	}
	return all, nil
}

// pages reads a list page by page, as far as the caller wants it. An error is
// the last thing that it yields.
func pages[T any](ctx context.Context, c *Client, path string, query url.Values, limit int) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		cursor := ""
		for {
			page, err := pageOf[T](ctx, c, path, query, limit, cursor)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range page.Items {
				if !yield(item, nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			cursor = page.Next
		}
	}
}

func pageOf[T any](
	ctx context.Context, c *Client, path string, query url.Values, limit int, cursor string,
) (wire.List[T], error) {
	q := maps.Clone(query)
	if q == nil {
		q = url.Values{}
	}
	q.Set("limit", strconv.Itoa(limit))
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	var page wire.List[T]
	err := c.get(ctx, path, q, &page)
	return page, err
}

// queryOf returns the parameters that are not empty, given as name, value,
// name, value.
func queryOf(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}

// flag, number, instant and pageLimit are parameters that are left out when they
// say nothing.
func flag(on bool) string {
	if on {
		return "true"
	}
	return ""
}

func number(n uint64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(n, 10)
}

func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func pageLimit(n int) string {
	return number(uint64(max(0, min(n, wire.MaxLimit))))
}
