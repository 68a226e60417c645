package xds

import (
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// item is one name in a content: a resource, the knowledge that there is
// none, or the doubt about what a proxy has. It is immutable and shared.
type item struct {
	name    string
	version string
	// hash decides whether two items of a name are equal.
	hash  uint64
	index uint64
	state itemState

	body []byte
	// ttl is how long a proxy keeps it without hearing of it, 0 for ever;
	// ttlField the same as a field of a Resource.
	ttl      time.Duration
	ttlField []byte

	aliases []string
	// asked are the subscribed names that it answers for, of kinds on demand.
	asked []string
	// services are the endpoints that a cluster asks for.
	services []string
	// secrets are those that a resource names.
	secrets []string
	// sealed is a secret as the state has it; body is then empty.
	sealed *fsmpb.Secret
	// binds are the addresses that a listener occupies.
	binds []string
}

type itemState uint8

const (
	present itemState = iota
	// absent: asked for by name and not there.
	absent
	// doubtful: the proxy may have one content or another, because it
	// rejected a response that it may have applied in part. The item holds
	// what it accepted before, if anything.
	doubtful
	// claimed: the proxy says that it has this version.
	claimed
)

// sameAs reports whether a proxy that has o needs nothing to have i.
func (i *item) sameAs(o *item) bool {
	if i == o {
		return true
	}
	if i.state == doubtful || o.state == doubtful {
		return false
	}
	if (i.ttl > 0 || o.ttl > 0) && i.version != o.version {
		return false // heartbeats name the version that the proxy was sent
	}
	return (i.state == absent) == (o.state == absent) && i.hash == o.hash
}

// held reports whether the proxy has accepted some content of the name.
func (i *item) held() bool {
	return i.state == present || i.state == claimed || i.state == doubtful && i.version != ""
}

func itemOf(r *fsmpb.Resource) *item {
	i := &item{
		name: r.Name, version: r.Version, hash: versionHash(r.Version), index: r.Index,
		body: r.Body, aliases: r.Aliases, binds: r.Binds,
	}
	if r.TtlMs > 0 {
		i.ttl = time.Duration(r.TtlMs) * time.Millisecond
		i.ttlField = ttlField(i.ttl)
	}
	for _, ref := range r.References {
		switch ref.Kind {
		case fsmpb.Reference_ENDPOINTS:
			i.services = append(i.services, ref.Name)
		case fsmpb.Reference_SECRET:
			i.secrets = append(i.secrets, ref.Name)
		}
	}
	return i
}

func itemOfEndpoints(e *fsmpb.Endpoints) *item {
	return &item{
		name: e.Service, version: e.Version, hash: versionHash(e.Version), index: e.Index, body: e.Body,
	}
}

// versionHash returns the number that decides equality of versions. Versions
// that are not ours get a number of their own.
func versionHash(version string) uint64 {
	hash := fsm.VersionHash(version)
	var b [8]byte
	if n, err := hex.Decode(b[:], []byte(firstN(hash, 16))); err == nil && n == 8 && len(hash) == 16 {
		return uint64(b[0])<<56 | uint64(b[1])<<48 | uint64(b[2])<<40 | uint64(b[3])<<32 |
			uint64(b[4])<<24 | uint64(b[5])<<16 | uint64(b[6])<<8 | uint64(b[7])
	}
	return xxhash.Sum64String("foreign " + version)
}

func firstN(s string, n int) string { return s[:min(len(s), n)] }

func compareItems(i *item, name string) int { return strings.Compare(i.name, name) }

// find returns the item of a name among sorted items, nil when there is none.
func find(items []*item, name string) *item {
	if n, ok := slices.BinarySearchFunc(items, name, compareItems); ok {
		return items[n]
	}
	return nil
}

// sameItems reports whether two lists hold equal items.
func sameItems(a, b []*item) bool {
	return slices.EqualFunc(a, b, func(x, y *item) bool {
		return x == y || x.name == y.name && x.sameAs(y)
	})
}
