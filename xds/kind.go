package xds

import (
	"github.com/org/envoy-control-plane/fsm"
)

// role is the part that a type plays in an ordered change.
type role uint8

const (
	// roleFree types are never gated.
	roleFree role = iota
	roleCluster
	roleListener
	roleRoute
)

// kind is what the server knows about one resource type.
type kind struct {
	url  string
	name string // label of metrics, short name
	role role
	// order in which a turn looks at the types of a stream.
	order int
	// full types are sent whole in the state-of-the-world protocol: what a
	// response leaves out is deleted.
	full bool
	// live types are no part of a revision and do not count for being synced.
	live bool
	// onDemand names may be aliases: the item that answers for one has
	// another name, and the proxy is told at once of one that leads nowhere.
	onDemand bool

	metrics kindMetrics
}

// maxKnown bounds the types known by name, whose orders are below it.
const maxKnown = 9

func (k *kind) known() bool { return k.order < maxKnown }

func (k *kind) isEndpoints() bool { return k.url == fsm.TypeEndpoints }
func (k *kind) isSecret() bool    { return k.url == fsm.TypeSecret }

// kinds finds the kind of a type URL.
type kinds struct {
	known map[string]*kind
	other kindMetrics
}

func newKinds(m *metrics) *kinds {
	ks := &kinds{known: map[string]*kind{}, other: m.of("other")}
	for i, k := range [maxKnown]kind{
		{url: fsm.TypeCluster, role: roleCluster, full: true},
		{url: fsm.TypeEndpoints, live: true},
		{url: fsm.TypeSecret, live: true},
		{url: fsm.TypeRuntime},
		{url: fsm.TypeExtension},
		{url: fsm.TypeListener, role: roleListener, full: true},
		{url: fsm.TypeScopedRoute, role: roleRoute, full: true},
		{url: fsm.TypeRoute, role: roleRoute},
		{url: fsm.TypeVirtualHost, role: roleRoute, onDemand: true},
	} {
		k.order, k.name = i, fsm.ShortType(k.url)
		k.metrics = m.of(k.name)
		ks.known[k.url] = &k
	}
	return ks
}

// of returns the kind of a type URL. Types that are not known by name are
// served all the same; they share one metrics label.
func (ks *kinds) of(url string) *kind {
	if k, ok := ks.known[url]; ok {
		return k
	}
	return &kind{url: url, name: fsm.ShortType(url), order: maxKnown, metrics: ks.other}
}
