package fsm

import "strings"

// TypePrefix stands before the message name in every type URL.
const TypePrefix = "type.googleapis.com/"

// Type URLs of what a fleet's proxies are configured with.
const (
	TypeCluster     = TypePrefix + "envoy.config.cluster.v3.Cluster"
	TypeListener    = TypePrefix + "envoy.config.listener.v3.Listener"
	TypeRoute       = TypePrefix + "envoy.config.route.v3.RouteConfiguration"
	TypeScopedRoute = TypePrefix + "envoy.config.route.v3.ScopedRouteConfiguration"
	TypeVirtualHost = TypePrefix + "envoy.config.route.v3.VirtualHost"
	TypeEndpoints   = TypePrefix + "envoy.config.endpoint.v3.ClusterLoadAssignment"
	TypeSecret      = TypePrefix + "envoy.extensions.transport_sockets.tls.v3.Secret"
	TypeRuntime     = TypePrefix + "envoy.service.runtime.v3.Runtime"
	TypeExtension   = TypePrefix + "envoy.config.core.v3.TypedExtensionConfig"
)

// shortTypes pairs the names that people use with their type URLs.
var shortTypes = [...]struct{ short, url string }{
	{"cluster", TypeCluster},
	{"listener", TypeListener},
	{"route", TypeRoute},
	{"scoped_route", TypeScopedRoute},
	{"virtual_host", TypeVirtualHost},
	{"endpoints", TypeEndpoints},
	{"secret", TypeSecret},
	{"runtime", TypeRuntime},
	{"extension", TypeExtension},
}

// ShortType returns the short name of a type URL ("cluster"), or the URL
// without its prefix where it has none.
func ShortType(typeURL string) string {
	for _, t := range shortTypes {
		if t.url == typeURL {
			return t.short
		}
	}
	return strings.TrimPrefix(typeURL, TypePrefix)
}

// TypeURL returns the type URL that a short name, or a URL with or without
// its prefix, stands for. It does not check that the type exists.
func TypeURL(name string) string {
	for _, t := range shortTypes {
		if t.short == name {
			return t.url
		}
	}
	if strings.Contains(name, "/") {
		return name
	}
	return TypePrefix + name
}
