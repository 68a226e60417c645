package backup

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
)

// Target is where backups are kept. Names have no folders.
type Target interface {
	// List returns what is there under names that begin with prefix.
	List(ctx context.Context, prefix string) ([]Object, error)
	// Put stores size bytes under a name. Nobody sees any of it before all of
	// it is durable.
	Put(ctx context.Context, name string, size int64, r io.Reader) error
	// Open reads what Put has stored.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
	Remove(ctx context.Context, name string) error
	// Sweep removes what is left of Puts that began before a time and did not
	// end, under names that begin with prefix.
	Sweep(ctx context.Context, prefix string, before time.Time) error
	// String is the target as an operator knows it.
	String() string
}

// Object is something in a target.
type Object struct {
	Name string
	Size int64
}

// ParseTarget takes the path or file URL of a directory, or
// s3://bucket/prefix?endpoint=URL&region=NAME&path-style=true, and looks for nothing
// there yet. The error names every mistake.
func ParseTarget(text string) (Target, error) {
	scheme, _, isURL := strings.Cut(text, "://")
	if !isURL {
		return &directory{path: text}, nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%q is not a URL", text)
	}
	switch scheme {
	case "file":
		if u.Host != "" || u.Path == "" || u.RawQuery != "" {
			return nil, fmt.Errorf("%q is not file:///DIRECTORY", text)
		}
		return &directory{path: u.Path}, nil
	case "s3":
		return parseBucket(u)
	}
	return nil, fmt.Errorf("%q is neither a directory nor file:///DIRECTORY nor s3://BUCKET/PREFIX", scheme+"://")
}
