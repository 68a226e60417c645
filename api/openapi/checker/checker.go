package checker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/org/envoy-control-plane/api/openapi"
	"github.com/org/envoy-control-plane/api/wire"
)

// Checker knows the document. It is safe for concurrent use.
type Checker struct {
	doc *openapi3.T
}

// New reads the document.
func New(ctx context.Context) (*Checker, error) {
	raw, err := openapi.JSON()
	if err != nil {
		return nil, err
	}
	doc, err := openapi3.NewLoader().LoadFromData(raw)
	if err != nil {
		return nil, fmt.Errorf("load the OpenAPI document: %w", err)
	}
	if err := doc.Validate(ctx); err != nil {
		return nil, fmt.Errorf("validate the OpenAPI document: %w", err)
	}
	return &Checker{doc: doc}, nil
}

// Document returns the parsed document. The caller must not modify it.
func (c *Checker) Document() *openapi3.T { return c.doc }

// Exchange is one request and its answer, both bodies as they were before
// and after any compression.
type Exchange struct {
	// Request has its URL and headers; the body is in RequestBody.
	Request     *http.Request
	RequestBody []byte
	Status      int
	Header      http.Header
	Body        []byte
}

// Check returns what is wrong with an exchange, nil for nothing.
func (c *Checker) Check(ctx context.Context, x Exchange) error {
	what := fmt.Sprintf("%s %s -> %d", x.Request.Method, x.Request.URL.EscapedPath(), x.Status)
	if err := c.check(ctx, x); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (c *Checker) check(ctx context.Context, x Exchange) error {
	if x.Header.Get(wire.HeaderIndex) == "" || x.Header.Get(wire.HeaderRequestID) == "" {
		return fmt.Errorf("an answer lacks %s or %s", wire.HeaderIndex, wire.HeaderRequestID)
	}
	route, params := c.find(x.Request)
	if route == nil {
		return c.unrouted(x)
	}
	input := &openapi3filter.RequestValidationInput{
		Request: x.request(ctx), PathParams: params, Route: route,
		Options: &openapi3filter.Options{
			MultiError: true, IncludeResponseStatus: true, SkipSettingDefaults: true,
			AuthenticationFunc: openapi3filter.NoopAuthenticationFunc,
		},
	}
	if x.Status < 400 {
		if err := openapi3filter.ValidateRequest(ctx, input); err != nil {
			return fmt.Errorf("taken, though the document forbids the request: %w", err)
		}
		if err := unknownQuery(route, x.Request.URL.Query()); err != nil {
			return err
		}
	}
	return c.answer(ctx, input, x)
}

// request returns the request with its body to be read again. Bodies in YAML
// are read as they are, under the one media type that the document lists.
func (x Exchange) request(ctx context.Context) *http.Request {
	r := x.Request.Clone(ctx)
	r.Header.Del("Content-Encoding")
	r.Body, r.GetBody = body(x.RequestBody), nil
	r.ContentLength = int64(len(x.RequestBody))
	switch media := r.Header.Get("Content-Type"); {
	case media == "" && len(x.RequestBody) > 0:
		r.Header.Set("Content-Type", wire.MediaJSON)
	case strings.Contains(media, "yaml"):
		r.Header.Set("Content-Type", wire.MediaYAML)
	}
	return r
}

func (c *Checker) answer(ctx context.Context, input *openapi3filter.RequestValidationInput, x Exchange) error {
	if x.Request.Method == http.MethodHead {
		return nil
	}
	response := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: x.Status, Header: x.Header, Options: input.Options,
	}
	response.SetBodyBytes(x.Body)
	stream := strings.HasPrefix(x.Header.Get("Content-Type"), wire.MediaEvents)
	if stream {
		options := *input.Options
		options.ExcludeResponseBody = true
		response.Options = &options
	}
	if err := openapi3filter.ValidateResponse(ctx, response); err != nil {
		return fmt.Errorf("the answer is not what the document says: %w", err)
	}
	if stream {
		return c.events(x.Body)
	}
	return c.retryAfter(x)
}

// events checks the data of server-sent events.
func (c *Checker) events(stream []byte) error {
	schema := "Event"
	for line := range strings.Lines(string(stream)) {
		field, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch {
		case field == "event" && text == "error":
			schema = "Problem"
		case field == "data":
			value, err := decode([]byte(text))
			if err == nil {
				err = c.doc.Components.Schemas[schema].Value.VisitJSON(value)
			}
			if err != nil {
				return fmt.Errorf("the data %s is no %s: %w", text, schema, err)
			}
		}
	}
	return nil
}

// retryAfter holds a promise that a schema cannot express.
func (c *Checker) retryAfter(x Exchange) error {
	problem := strings.HasPrefix(x.Header.Get("Content-Type"), wire.MediaProblem)
	if problem && (x.Status == 503 || x.Status == 507) && x.Header.Get("Retry-After") == "" {
		return errors.New("a problem of status 503 or 507 lacks Retry-After")
	}
	if x.Status == http.StatusUnauthorized && x.Header.Get("WWW-Authenticate") == "" {
		return errors.New("401 lacks WWW-Authenticate")
	}
	return nil
}

// unrouted checks the answer to what the document does not have.
func (c *Checker) unrouted(x Exchange) error {
	switch x.Status {
	case http.StatusNotFound:
	case http.StatusMethodNotAllowed:
		if x.Header.Get("Allow") == "" {
			return errors.New("405 lacks Allow")
		}
	case http.StatusNoContent:
		if x.Request.Method == http.MethodOptions && x.Header.Get("Allow") != "" {
			return nil
		}
		return errors.New("204 to what is not an OPTIONS")
	default:
		return errors.New("the document has no such operation")
	}
	if x.Request.Method == http.MethodHead {
		return nil
	}
	schema := c.doc.Components.Schemas["Problem"].Value
	value, err := decode(x.Body)
	if err != nil {
		return err
	}
	return schema.VisitJSON(value)
}

// find returns the operation of a request, and its decoded path parameters.
func (c *Checker) find(r *http.Request) (*routers.Route, map[string]string) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	for path, item := range c.doc.Paths.Map() {
		params, ok := match(path, r.URL.EscapedPath())
		operation := item.GetOperation(method)
		if ok && operation != nil {
			return &routers.Route{
				Spec: c.doc, Path: path, PathItem: item, Method: method, Operation: operation,
			}, params
		}
	}
	return nil, nil
}

// match compares a path's template with an escaped path, segment by segment.
func match(template, path string) (map[string]string, bool) {
	want, have := strings.Split(template, "/"), strings.Split(path, "/")
	if len(want) != len(have) {
		return nil, false
	}
	params := map[string]string{}
	for i, segment := range want {
		value, err := url.PathUnescape(have[i])
		name, isParam := strings.CutPrefix(segment, "{")
		switch {
		case err != nil:
			return nil, false
		case isParam && value != "":
			params[strings.TrimSuffix(name, "}")] = value
		case have[i] != segment:
			return nil, false
		}
	}
	return params, true
}

// unknownQuery finds parameters that the document does not list.
func unknownQuery(route *routers.Route, query url.Values) error {
	for name := range query {
		if route.Operation.Parameters.GetByInAndName(openapi3.ParameterInQuery, name) == nil &&
			route.PathItem.Parameters.GetByInAndName(openapi3.ParameterInQuery, name) == nil {
			return fmt.Errorf("taken, though the document has no query parameter %q", name)
		}
	}
	return nil
}
