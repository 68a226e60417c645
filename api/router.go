package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/julienschmidt/httprouter"

	"github.com/org/envoy-control-plane/api/wire"
)

// router finds the route of a request. It matches the path as it came over
// the wire and decodes the parameters afterwards, so that a name may hold any
// character, "/" too. Nothing is redirected: a client that asks for a wrong
// path is told so.
type router struct {
	tree    *httprouter.Router
	methods []string
}

// matched is what httprouter's handle leaves behind for the caller.
type matched struct {
	http.ResponseWriter
	route *Route
}

func newRouter(routes []Route) *router {
	r := &router{tree: httprouter.New()}
	for i := range routes {
		route := &routes[i]
		path := strings.NewReplacer("{", ":", "}", "").Replace(route.Pattern)
		r.tree.Handle(route.Method, path, func(w http.ResponseWriter, _ *http.Request, _ httprouter.Params) {
			w.(*matched).route = route //nolint:forcetypeassert // find passes nothing else
		})
		if !slices.Contains(r.methods, route.Method) {
			r.methods = append(r.methods, route.Method)
		}
	}
	return r
}

// find returns the route of a method and an escaped path, with its decoded
// parameters; nil when there is none. HEAD is answered as GET is.
func (r *router) find(method, path string) (*Route, map[string]string) {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	handle, params, _ := r.tree.Lookup(method, path)
	if handle == nil {
		return nil, nil
	}
	decoded := make(map[string]string, len(params))
	for _, p := range params {
		value, err := url.PathUnescape(p.Value)
		if err != nil || value == "" {
			return nil, nil
		}
		decoded[p.Key] = value
	}
	m := &matched{}
	handle(m, nil, nil)
	return m.route, decoded
}

// allowed lists the methods that a path takes, nil for an unknown path.
func (r *router) allowed(path string) []string {
	var methods []string
	for _, method := range r.methods {
		if route, _ := r.find(method, path); route != nil {
			methods = append(methods, method)
			if method == http.MethodGet {
				methods = append(methods, http.MethodHead)
			}
		}
	}
	if methods == nil {
		return nil
	}
	methods = append(methods, http.MethodOptions)
	slices.Sort(methods)
	return methods
}

// unrouted answers a request that has no route.
func (r *router) unrouted(c *call) (*answer, error) {
	allowed := r.allowed(c.r.URL.EscapedPath())
	if allowed == nil {
		return nil, refuse(wire.CodeUnknownPath, "there is no %s", c.r.URL.EscapedPath())
	}
	c.w.Header().Set("Allow", strings.Join(allowed, ", "))
	if c.r.Method == http.MethodOptions {
		return &answer{status: http.StatusNoContent}, nil
	}
	return nil, refuse(wire.CodeMethodNotAllowed, "%s takes %s, not %s",
		c.r.URL.EscapedPath(), strings.Join(allowed, ", "), c.r.Method)
}
