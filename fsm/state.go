package fsm

import (
	"iter"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// DefaultTenant exists from the start and cannot be deleted.
const DefaultTenant = "default"

// State is one immutable version of everything that is replicated. All its
// methods are safe for concurrent use; what they return is shared and must
// not be modified.
type State struct {
	index uint64
	stamp int64
	level uint32
	// levelIndex is where the state came to its level; 0 for BaseLevel.
	levelIndex uint64
	identity   *fsmpb.Identity

	tenants   *iradix.Tree[*fsmpb.Tenant]    // name
	fleets    *iradix.Tree[*fsmpb.Fleet]     // tenant, name
	revisions *iradix.Tree[*Revision]        // tenant, fleet, number
	endpoints *iradix.Tree[*fsmpb.Endpoints] // tenant, service
	secrets   *iradix.Tree[*fsmpb.Secret]    // tenant, name
	proxies   *iradix.Tree[*fsmpb.Proxy]     // tenant, id
	nodes     *iradix.Tree[*fsmpb.NodeStart] // node

	outbox outbox
	memory memory

	readOnly   *fsmpb.ReadOnly   // nil while tenants may write
	membership *fsmpb.Membership // nil until a leader has recorded it
}

// New returns the empty state: the default tenant and nothing else.
func New() *State {
	s := blank()
	s.tenants, _, _ = s.tenants.Insert(key(DefaultTenant), &fsmpb.Tenant{Name: DefaultTenant})
	return s
}

// blank returns a state without any row.
func blank() *State {
	return &State{
		level:     BaseLevel,
		tenants:   iradix.New[*fsmpb.Tenant](),
		fleets:    iradix.New[*fsmpb.Fleet](),
		revisions: iradix.New[*Revision](),
		endpoints: iradix.New[*fsmpb.Endpoints](),
		secrets:   iradix.New[*fsmpb.Secret](),
		proxies:   iradix.New[*fsmpb.Proxy](),
		nodes:     iradix.New[*fsmpb.NodeStart](),
		outbox:    newOutbox(),
		memory:    newMemory(),
	}
}

// Index returns the log index of the last entry applied.
func (s *State) Index() uint64 { return s.index }

// Stamp returns the log time of the last entry applied, in nanoseconds since
// the Unix epoch.
func (s *State) Stamp() int64 { return s.stamp }

// Identity returns the cluster and epoch that the state belongs to, nil
// before the cluster's first command.
func (s *State) Identity() *fsmpb.Identity { return s.identity }

// Tenant returns a tenant by name.
func (s *State) Tenant(name string) (*fsmpb.Tenant, bool) { return s.tenants.Get(key(name)) }

// Tenants yields the tenants whose names lie after the given one, in order.
func (s *State) Tenants(after string) iter.Seq[*fsmpb.Tenant] {
	return values(s.tenants, nil, after)
}

// Fleet returns a fleet of a tenant.
func (s *State) Fleet(tenant, fleet string) (*fsmpb.Fleet, bool) {
	return s.fleets.Get(key(tenant, fleet))
}

// Fleets yields a tenant's fleets whose names lie after the given one, in
// order.
func (s *State) Fleets(tenant, after string) iter.Seq[*fsmpb.Fleet] {
	return values(s.fleets, prefix(tenant), after)
}

// Revision returns a fleet's revision by number, the current one for 0. It is
// absent when there is none yet or it is no longer kept in memory.
func (s *State) Revision(tenant, fleet string, n uint64) (*Revision, bool) {
	if n == 0 {
		f, ok := s.Fleet(tenant, fleet)
		if !ok {
			return nil, false
		}
		n = f.Revision
	}
	return s.revisions.Get(revisionKey(tenant, fleet, n))
}

// Content returns the bytes of a resource with the content of a version: of
// endpoints the current ones, of a fleet's resources those of the newest
// revision in memory that has it. There is none of secrets.
func (s *State) Content(tenant, fleet string, k *fsmpb.ResourceKey, version string) ([]byte, bool) {
	hash := VersionHash(version)
	if k.GetTypeUrl() == TypeEndpoints {
		e, ok := s.Endpoints(tenant, k.GetName())
		return e.GetBody(), ok && VersionHash(e.Version) == hash
	}
	for r := range s.Revisions(tenant, fleet, 0) {
		res, ok := r.Resource(k.GetTypeUrl(), k.GetName())
		if ok && VersionHash(res.Version) == hash {
			return res.Body, true
		}
	}
	return nil, false
}

// Revisions yields a fleet's revisions below the given number, newest first;
// from the newest for 0.
func (s *State) Revisions(tenant, fleet string, before uint64) iter.Seq[*Revision] {
	return func(yield func(*Revision) bool) {
		f, ok := s.Fleet(tenant, fleet)
		if !ok {
			return
		}
		if before == 0 || before > f.Revision {
			before = f.Revision + 1
		}
		for n := before - 1; n > 0; n-- {
			r, ok := s.Revision(tenant, fleet, n)
			if !ok || !yield(r) {
				return
			}
		}
	}
}

// Endpoints returns the endpoints of a tenant's service.
func (s *State) Endpoints(tenant, service string) (*fsmpb.Endpoints, bool) {
	return s.endpoints.Get(key(tenant, service))
}

// EndpointsOf yields a tenant's endpoints whose service names lie after the
// given one, in order.
func (s *State) EndpointsOf(tenant, after string) iter.Seq[*fsmpb.Endpoints] {
	return values(s.endpoints, prefix(tenant), after)
}

// Secret returns a tenant's secret by name.
func (s *State) Secret(tenant, name string) (*fsmpb.Secret, bool) {
	return s.secrets.Get(key(tenant, name))
}

// SecretsOf yields a tenant's secrets whose names lie after the given one, in
// order.
func (s *State) SecretsOf(tenant, after string) iter.Seq[*fsmpb.Secret] {
	return values(s.secrets, prefix(tenant), after)
}

// Proxy returns a tenant's proxy by id.
func (s *State) Proxy(tenant, id string) (*fsmpb.Proxy, bool) { return s.proxies.Get(key(tenant, id)) }

// Proxies yields a tenant's proxies whose ids lie after the given one, in
// order.
func (s *State) Proxies(tenant, after string) iter.Seq[*fsmpb.Proxy] {
	return values(s.proxies, prefix(tenant), after)
}

// Forgettable reports whether a proxy has had no stream since before a log
// time, in nanoseconds since the Unix epoch.
func (s *State) Forgettable(before int64) bool {
	for p := range s.AllProxies() {
		if away(p, before) {
			return true
		}
	}
	return false
}

// AllProxies yields the proxies of all tenants, by tenant and id.
func (s *State) AllProxies() iter.Seq[*fsmpb.Proxy] { return values(s.proxies, nil, "") }

// NodeStart returns the newest process of a node that has reported.
func (s *State) NodeStart(node string) (*fsmpb.NodeStart, bool) { return s.nodes.Get(key(node)) }
