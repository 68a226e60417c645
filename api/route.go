package api

import (
	"net/http"
	"slices"

	"github.com/org/envoy-control-plane/api/wire"
)

// Permission is what a route asks of its caller.
type Permission int

// Permissions, from the least.
const (
	// PermNone: anybody, without a token.
	PermNone Permission = iota
	// PermView: any role.
	PermView
	// PermOperate: operator or admin.
	PermOperate
	// PermTenants: an admin whose token is not bound to one tenant.
	PermTenants
	// PermCluster: the same, for the control plane itself.
	PermCluster
)

// Kind says how a route's requests behave.
type Kind int

// Kinds of routes.
const (
	// KindPlain answers within the request limit.
	KindPlain Kind = iota
	// KindWait may be asked to wait; such requests stay out of the latency
	// histogram and have longer.
	KindWait
	// KindLong may take as long as its body needs, and stays out of that
	// histogram, too.
	KindLong
	// KindStream answers for as long as the client listens, and stays out of it,
	// too.
	KindStream
)

// Route is one row of the API.
type Route struct {
	Method string
	// Pattern is the path's template as OpenAPI writes it.
	Pattern string
	// Operation is the operationId in the OpenAPI document.
	Operation  string
	Permission Permission
	Kind       Kind
	// Query lists the parameters that it takes; any other is refused.
	Query []string

	handle handler
}

const (
	tenantsPath  = wire.Prefix + "/tenants"
	tenantPath   = tenantsPath + "/{tenant}"
	fleetsPath   = tenantPath + "/fleets"
	fleetPath    = fleetsPath + "/{fleet}"
	servicesPath = tenantPath + "/endpoints"
	servicePath  = servicesPath + "/{service}"
	secretsPath  = tenantPath + "/secrets"
	secretPath   = secretsPath + "/{secret}"
	proxiesPath  = tenantPath + "/proxies"
	proxyPath    = proxiesPath + "/{proxy}"
	reportsPath  = tenantPath + "/reports"
	clusterPath  = wire.Prefix + "/cluster"
	socketPath   = wire.Prefix + "/ws"
)

// repeats reports whether a query parameter may be given several times.
func (r *Route) repeats(parameter string) bool { return r.Kind == KindStream && parameter == "kind" }

// routes is the table of everything that the server answers.
func routes() []Route { return slices.Concat(tenantRoutes(), reportRoutes(), clusterRoutes()) }

func tenantRoutes() []Route {
	const get, put, post, del = http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete
	reading := readingState()
	listing := with(reading, "limit", "cursor") // of every list
	changing := []string{"dry_run", "force", "content"}
	return []Route{
		{get, "/health", "getHealth", PermNone, KindPlain, nil, (*Server).health},
		{get, "/ready", "getReady", PermNone, KindPlain, nil, (*Server).ready},
		{get, "/version", "getVersion", PermView, KindPlain, nil, (*Server).version},
		{get, wire.Prefix + "/openapi.json", "getOpenAPI", PermView, KindPlain, nil, (*Server).openAPI},

		{get, tenantsPath, "listTenants", PermView, KindPlain, listing, read(listTenants)},
		{get, tenantPath, "getTenant", PermView, KindPlain, reading, read(getTenant)},
		{put, tenantPath, "putTenant", PermTenants, KindPlain, nil, (*Server).putTenant},
		{del, tenantPath, "deleteTenant", PermTenants, KindPlain, nil, (*Server).deleteTenant},

		{get, fleetsPath, "listFleets", PermView, KindPlain, listing, read(listFleets)},
		{get, fleetPath, "getFleet", PermView, KindPlain, reading, read(getFleet)},
		{put, fleetPath, "putFleet", PermOperate, KindPlain, nil, (*Server).putFleet},
		{del, fleetPath, "deleteFleet", PermOperate, KindPlain, []string{"force"}, (*Server).deleteFleet},
		{post, fleetPath + "/changes", "changeFleet", PermOperate, KindPlain, changing, (*Server).changeFleet},
		{post, fleetPath + "/rollback", "rollbackFleet", PermOperate, KindPlain, changing, (*Server).rollbackFleet},
		{
			get, fleetPath + "/resources", "listResources", PermView, KindPlain,
			with(listing, "type", "revision"), read(listResources),
		},
		{
			get, fleetPath + "/resources/{type}/{name}", "getResource", PermView, KindPlain,
			with(reading, "revision"), read(getResource),
		},
		{get, fleetPath + "/revisions", "listRevisions", PermView, KindPlain, listing, read(listRevisions)},
		{get, fleetPath + "/revisions/{revision}", "getRevision", PermView, KindPlain, reading, read(getRevision)},
		{
			get, fleetPath + "/revisions/{revision}/diff", "diffRevisions", PermView, KindPlain,
			with(reading, "from", "content"), read(diffRevisions),
		},
		{
			get, fleetPath + "/status", "getFleetStatus", PermView, KindWait,
			with(reading, "revision", "wait"), read(fleetStatus),
		},

		{get, servicesPath, "listEndpoints", PermView, KindPlain, listing, read(listEndpoints)},
		{get, servicePath, "getEndpoints", PermView, KindPlain, reading, read(getEndpoints)},
		{put, servicePath, "putEndpoints", PermOperate, KindPlain, nil, (*Server).putEndpoints},
		{del, servicePath, "deleteEndpoints", PermOperate, KindPlain, nil, (*Server).deleteEndpoints},

		{get, secretsPath, "listSecrets", PermView, KindPlain, listing, sealing(read(listSecrets))},
		{get, secretPath, "getSecret", PermView, KindPlain, reading, sealing(read(getSecret))},
		{put, secretPath, "putSecret", PermOperate, KindPlain, nil, sealing((*Server).putSecret)},
		{del, secretPath, "deleteSecret", PermOperate, KindPlain, nil, sealing((*Server).deleteSecret)},

		{
			get, proxiesPath, "listProxies", PermView, KindPlain,
			with(listing, "fleet", "status"), read(listProxies),
		},
		{get, proxyPath, "getProxy", PermView, KindPlain, reading, read(getProxy)},
		{del, proxyPath, "deleteProxy", PermOperate, KindPlain, nil, (*Server).deleteProxy},
		{
			get, proxyPath + "/config", "getProxyConfig", PermView, KindPlain,
			with(reading, "content"), read(proxyConfig),
		},
		{post, proxyPath + "/retry", "retryProxy", PermOperate, KindPlain, []string{"type"}, read(retryProxy)},
		{
			get, tenantPath + "/history", "listHistory", PermView, KindPlain,
			with(listing, "fleet", "kind", "by", "since", "until"), read(listHistory),
		},
		{get, tenantPath + "/events", "streamEvents", PermView, KindStream, streaming("fleet"), (*Server).tenantEvents},
		{get, socketPath, "openEventSocket", PermView, KindStream, streaming("fleet", "tenant"), (*Server).eventSocket},
	}
}

func reportRoutes() []Route {
	const get = http.MethodGet
	ranged := with(readingState(), "limit", "cursor", "fleet", "since", "until")
	return []Route{
		{
			get, reportsPath + "/changes", "reportChanges", PermView, KindPlain,
			with(ranged, "kind", "by"), reporting("changes", Archived.Changes),
		},
		{
			get, reportsPath + "/convergence", "reportConvergence", PermView, KindPlain,
			ranged, reporting("convergence", Archived.Convergence),
		},
		{
			get, reportsPath + "/rejections", "reportRejections", PermView, KindPlain,
			ranged, reporting("rejections", Archived.Rejections),
		},
		{
			get, reportsPath + "/proxies", "reportProxies", PermView, KindPlain,
			with(ranged, "interval"), reporting("proxies", Archived.Proxies),
		},
		{
			get, reportsPath + "/availability", "reportAvailability", PermView, KindPlain,
			ranged, reporting("availability", Archived.Availability),
		},
		{
			get, reportsPath + "/metrics", "reportMetrics", PermView, KindPlain,
			with(ranged, "name", "proxy", "labels", "group", "interval"), reportMetrics,
		},
	}
}

func clusterRoutes() []Route {
	const get, put, post, del = http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete
	reading := readingState()
	return []Route{
		{get, clusterPath, "getCluster", PermView, KindPlain, reading, read(getCluster)},
		{get, clusterPath + "/snapshot", "getSnapshot", PermCluster, KindLong, reading, (*Server).getSnapshot},
		{
			put, clusterPath + "/snapshot", "putSnapshot", PermCluster, KindLong,
			[]string{"dry_run", "from_cluster"},
			(*Server).putSnapshot,
		},
		{get, clusterPath + "/events", "streamClusterEvents", PermCluster, KindStream, streaming(), (*Server).clusterEvents},
		{get, clusterPath + "/archive", "getArchive", PermView, KindPlain, reading, read(getArchive)},
		{get, clusterPath + "/read-only", "getReadOnly", PermView, KindPlain, reading, read(getReadOnly)},
		{put, clusterPath + "/read-only", "putReadOnly", PermCluster, KindPlain, nil, (*Server).putReadOnly},
		{post, clusterPath + "/finalize", "finalizeCluster", PermCluster, KindPlain, nil, (*Server).finalizeCluster},
		{post, clusterPath + "/leader", "transferLeader", PermCluster, KindPlain, nil, (*Server).transferLeader},
		{del, clusterPath + "/nodes/{node}", "removeNode", PermCluster, KindPlain, nil, (*Server).removeNode},
		{
			post, clusterPath + "/nodes/{node}/drain", "drainNode", PermCluster, KindPlain,
			[]string{"within"},
			(*Server).drainNode,
		},
		{del, clusterPath + "/nodes/{node}/drain", "undrainNode", PermCluster, KindPlain, nil, (*Server).undrainNode},
		{post, clusterPath + "/nodes/{node}/demote", "demoteNode", PermCluster, KindPlain, nil, (*Server).demoteNode},
		{del, clusterPath + "/nodes/{node}/demote", "undemoteNode", PermCluster, KindPlain, nil, (*Server).undemoteNode},
	}
}

// readingState are the parameters of every read of state.
func readingState() []string { return []string{"min_index", "consistency"} }

// streaming are the parameters of every stream of events, and more.
func streaming(more ...string) []string {
	return with([]string{"since", "since_index", "kind", "follow"}, more...)
}

// with adds parameters to those of a kind of route.
func with(base []string, more ...string) []string { return append(more, base...) }
