package api

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/org/envoy-control-plane/fsm"
)

// call is one request on its way through the server.
type call struct {
	w        http.ResponseWriter
	r        *http.Request
	ctx      context.Context //nolint:containedctx // it lives as long as the request
	id       string          // X-Request-Id
	route    *Route          // nil while, and when, there is none
	params   map[string]string
	query    url.Values
	subject  Subject
	deadline time.Time // of the body's arrival
	waits    bool      // was asked to wait, or has a long body
	index    uint64    // log index that the answer reflects, 0: of the state
	epoch    string    // of the index, "": of the state
	replayed bool      // remembered from the first time
	cancel   context.CancelFunc
}

// handler answers one call.
type handler func(*Server, *call) (*answer, error)

// answer is what a handler has to say. The zero status means 200.
type answer struct {
	status int
	// body is encoded as JSON; raw, when set, is JSON already; stream writes
	// something else, of which the handler has set the media type.
	body   any
	raw    []byte
	stream func(io.Writer) error
	// takeOver, when set, does all of the answering and returns the status.
	takeOver func(http.ResponseWriter) int
}

// reflect notes the state that the answer is from.
func (c *call) reflect(st *fsm.State) { c.index, c.epoch = st.Index(), st.Identity().GetEpoch() }

// param returns a decoded path parameter.
func (c *call) param(name string) string { return c.params[name] }

// parseQuery reads the query and refuses what the route does not know: a
// misspelt dry_run must not write.
func (c *call) parseQuery() error {
	query, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return refuseParameter("", "%v", err)
	}
	for name, values := range query {
		if !slices.Contains(c.route.Query, name) {
			return refuseParameter(name, "%s takes %v", c.route.Operation, c.route.Query)
		}
		if len(values) > 1 && !c.route.repeats(name) {
			return refuseParameter(name, "it may be given once")
		}
	}
	c.query = query
	return nil
}

// flag reads a boolean query parameter.
func (c *call) flag(name string) (bool, error) {
	switch v := c.query.Get(name); {
	case !c.query.Has(name) || v == "false":
		return false, nil
	case v == "true":
		return true, nil
	default:
		return false, refuseParameter(name, "%q is neither true nor false", v)
	}
}

// number reads a query parameter that is a number, 0 when it is absent.
func (c *call) number(name string) (uint64, error) {
	if !c.query.Has(name) {
		return 0, nil
	}
	n, err := strconv.ParseUint(c.query.Get(name), 10, 64)
	if err != nil {
		return 0, refuseParameter(name, "%q is not a whole number", c.query.Get(name))
	}
	return n, nil
}

// duration reads a query parameter like "30s", 0 when it is absent.
func (c *call) duration(name string, limit time.Duration) (time.Duration, error) {
	if !c.query.Has(name) {
		return 0, nil
	}
	d, err := time.ParseDuration(c.query.Get(name))
	if err != nil || d < 0 || d > limit {
		return 0, refuseParameter(name, "%q is not a duration from 0s to %s", c.query.Get(name), limit)
	}
	return d, nil
}

// instant reads a query parameter that is an RFC 3339 time.
func (c *call) instant(name string) (time.Time, error) {
	if !c.query.Has(name) {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, c.query.Get(name))
	if err != nil {
		return time.Time{}, refuseParameter(name, "%q is not an RFC 3339 time", c.query.Get(name))
	}
	return t, nil
}
