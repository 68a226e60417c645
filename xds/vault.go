package xds

import (
	"log/slog"
	"slices"
	"sync"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Opener decrypts a secret of a tenant and name.
type Opener interface {
	Open(tenant, name, keyID string, sealed []byte) ([]byte, error)
}

// vault opens secrets for the frames that they are sent in. Items of secrets
// hold them as the state does; in clear they are nowhere but in frames.
type vault struct {
	opener Opener // nil without a key
	log    *slog.Logger

	mu sync.Mutex
	// shut are the versions of secrets that could not be opened, by name.
	shut map[liveKey]string
}

func newVault(d Deps) *vault {
	return &vault{opener: d.Secrets, log: d.Log, shut: map[liveKey]string{}}
}

// opens reports whether a secret can be opened here.
func (v *vault) opens(x *fsmpb.Secret) bool {
	_, ok := v.open(x)
	v.note(x, ok)
	return ok
}

func (v *vault) open(x *fsmpb.Secret) ([]byte, bool) {
	if v.opener == nil {
		return nil, false
	}
	plain, err := v.opener.Open(x.Tenant, x.Name, x.KeyId, x.Sealed)
	return plain, err == nil
}

// note keeps account of the secrets that cannot be opened, and tells of each
// version once.
func (v *vault) note(x *fsmpb.Secret, ok bool) {
	key := liveKey{fsm.TypeSecret, x.Tenant, x.Name}
	v.mu.Lock()
	defer v.mu.Unlock()
	was, known := v.shut[key]
	switch {
	case ok && known:
		delete(v.shut, key)
	case !ok && was != x.Version:
		v.shut[key] = x.Version
		v.log.Error("a secret cannot be opened and is not sent: this node lacks its key, or it is damaged",
			"tenant", x.Tenant, "secret", x.Name, "key_id", x.KeyId)
	}
}

// forget drops the account of a secret that is no longer there.
func (v *vault) forget(key liveKey) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.shut, key)
}

// ShutSecrets returns how many secrets that proxies ask for cannot be opened here.
func (s *Server) ShutSecrets() int {
	s.hub.vault.mu.Lock()
	defer s.hub.vault.mu.Unlock()
	return len(s.hub.vault.shut)
}

// opened returns items as they go into a frame: secrets in clear. One that
// cannot be opened any more is left out.
func (v *vault) opened(k *kind, items []*item) []*item {
	if !k.isSecret() {
		return items
	}
	out := make([]*item, 0, len(items))
	for _, i := range items {
		if i.sealed == nil {
			out = append(out, i)
			continue
		}
		if plain, ok := v.open(i.sealed); ok {
			open := *i
			open.body = plain
			out = append(out, &open)
		}
	}
	return out
}

// secret returns the item of a secret for a fleet; was is the one before, nil
// for none. One that the fleet does not name is not there, but a proxy that has
// it is not told so: what used it may still be in use. Of one that cannot be
// opened nothing is said.
func (h *hub) secret(g *group, name string, was *item) *item {
	x, ok := h.state.Secret(g.key.tenant, name)
	if !ok {
		h.vault.forget(liveKey{g.key.url, g.key.tenant, name})
		return keep(was, &item{name: name, state: absent})
	}
	i, named := itemOfSecret(x), g.scope.names(name)
	switch had := was != nil && was.state != absent; {
	case !named && !had:
		return keep(was, &item{name: name, state: absent})
	case !named:
		return withheld(was, name)
	case was != nil && was.state == present && was.version == i.version:
		return was
	case !h.vault.opens(x):
		return withheld(was, name)
	}
	return i
}

func (h *hub) allSecrets(g *group, old *content) []*item {
	var items []*item
	for x := range h.state.SecretsOf(g.key.tenant, "") {
		if was := old.find(x.Name); was != nil || g.scope.names(x.Name) {
			items = append(items, h.secret(g, x.Name, was))
		}
	}
	return items
}

// withheld returns the item of a name of which nothing is said.
func withheld(was *item, name string) *item {
	if was != nil && was.state == doubtful {
		return was
	}
	return &item{name: name, state: doubtful}
}

// names reports whether a resource of the fleet's revision names a secret.
func (s *scope) names(secret string) bool {
	v := s.view.Load()
	if v == nil {
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, set := range v.sets {
		if _, ok := slices.BinarySearch(set.secrets(), secret); ok {
			return true
		}
	}
	return false
}

// secretsOf returns the sorted names of the secrets that items name.
func secretsOf(items []*item) []string {
	var names []string
	for _, i := range items {
		names = append(names, i.secrets...)
	}
	return sortedSet(names)
}

func itemOfSecret(x *fsmpb.Secret) *item {
	return &item{name: x.Name, version: x.Version, hash: versionHash(x.Version), index: x.Index, sealed: x}
}
