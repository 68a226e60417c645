package xds

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/org/envoy-control-plane/fsm"
)

// Responses are written field by field around the stored bytes of resources,
// which are never marshalled again.

// typeResource is the wrapper of resources, which the state of the world uses
// only for what has a time to live.
const typeResource = fsm.TypePrefix + "envoy.service.discovery.v3.Resource"

// Field numbers of DiscoveryResponse, DeltaDiscoveryResponse, Resource, Any,
// ControlPlane, ClusterLoadAssignment and Duration.
const (
	responseVersion, responseResources, responseType, responseNonce, responseControlPlane = 1, 2, 4, 5, 6
	deltaResponseRemoved, deltaResponseControlPlane                                       = 6, 7
	resourceVersion, resourceBody, resourceName, resourceAliases, resourceTTL             = 1, 2, 3, 4, 6
	durationSeconds, durationNanos                                                        = 1, 2

	anyField               = 2 // in responses and in Resource
	anyType, anyValue      = 1, 2
	controlPlaneIdentifier = 1
	assignmentClusterName  = 1
	virtualHostName        = 1
)

// state encodes a DiscoveryResponse without its nonce. Names in gone are
// those of endpoints that are not there: empty assignments.
// With ttl set, those that have a time to live are wrapped, to carry it.
func (e *encoder) state(to *content, items []*item, gone []string, ttl bool) []byte {
	items = e.vault.opened(to.kind, items)
	size := 256
	for _, i := range items {
		size += len(i.body) + len(to.kind.url) + 16
		if ttl && i.ttl > 0 {
			size += resourceSize(i, to.kind.url, true) - len(i.body) + len(typeResource)
		}
	}
	for _, n := range gone {
		size += len(n) + len(to.kind.url) + 24
	}
	b := make([]byte, 0, size)
	b = appendString(b, responseVersion, to.digest())
	for _, i := range items {
		switch {
		case !i.held():
		case ttl && i.ttl > 0:
			b = appendAny(b, typeResource, appendResource(nil, i, to.kind.url, true))
		default:
			b = appendAny(b, to.kind.url, i.body, bodyName(i, to.kind.url))
		}
	}
	for _, name := range gone {
		b = appendAny(b, fsm.TypeEndpoints, appendString(nil, assignmentClusterName, name))
	}
	b = appendString(b, responseType, to.kind.url)
	return e.appendIdentifier(b, responseControlPlane)
}

// delta encodes a DeltaDiscoveryResponse without its nonce.
func (e *encoder) delta(f *frame) []byte {
	url, changed := f.to.kind.url, e.vault.opened(f.to.kind, f.diff.changed)
	size := 256
	for _, i := range changed {
		size += resourceSize(i, url, f.ttl) + 16
	}
	for _, n := range f.diff.removed {
		size += len(n) + 8
	}
	for _, i := range f.diff.missed {
		size += 2*len(i.name) + 24
	}
	b := make([]byte, 0, size)
	b = appendString(b, responseVersion, f.to.digest())
	for _, i := range changed {
		b = protowire.AppendTag(b, responseResources, protowire.BytesType)
		if f.bare {
			b = protowire.AppendBytes(b, appendBare(nil, i))
			continue
		}
		b = protowire.AppendVarint(b, uint64(resourceSize(i, url, f.ttl)))
		b = appendResource(b, i, url, f.ttl)
	}
	for _, i := range f.diff.missed {
		b = appendMissed(b, i.name)
	}
	b = appendString(b, responseType, url)
	for _, n := range f.diff.removed {
		b = appendString(b, deltaResponseRemoved, n)
	}
	return e.appendIdentifier(b, deltaResponseControlPlane)
}

func (e *encoder) appendIdentifier(b []byte, num protowire.Number) []byte {
	if e.identifier == "" {
		return b
	}
	b = protowire.AppendTag(b, num, protowire.BytesType)
	return protowire.AppendBytes(b, appendString(nil, controlPlaneIdentifier, e.identifier))
}

func appendString(b []byte, num protowire.Number, s string) []byte {
	b = protowire.AppendTag(b, num, protowire.BytesType)
	return protowire.AppendString(b, s)
}

// appendAny adds a message, whose bytes may come in parts.
func appendAny(b []byte, url string, body ...[]byte) []byte {
	b = protowire.AppendTag(b, anyField, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(anySize(url, sizeOf(body))))
	b = appendString(b, anyType, url)
	b = protowire.AppendTag(b, anyValue, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(sizeOf(body)))
	for _, part := range body {
		b = append(b, part...)
	}
	return b
}

func sizeOf(parts [][]byte) (n int) {
	for _, p := range parts {
		n += len(p)
	}
	return n
}

func anySize(url string, body int) int {
	return stringSize(anyType, url) + protowire.SizeTag(anyValue) + protowire.SizeBytes(body)
}

// bodyName is the end of a virtual host's body: once more its name field, of
// which the last one counts. Envoy goes by the name in the body when it
// removes, so that has to be the resource's.
func bodyName(i *item, url string) []byte {
	if url != fsm.TypeVirtualHost {
		return nil
	}
	return appendString(nil, virtualHostName, i.name)
}

func stringSize(num protowire.Number, s string) int {
	return protowire.SizeTag(num) + protowire.SizeBytes(len(s))
}

func resourceSize(i *item, url string, ttl bool) int {
	n := stringSize(resourceVersion, i.version) + stringSize(resourceName, i.name)
	n += protowire.SizeTag(resourceBody) + protowire.SizeBytes(anySize(url, len(i.body)+len(bodyName(i, url))))
	for _, a := range i.aliases {
		n += stringSize(resourceAliases, a)
	}
	if ttl {
		n += len(i.ttlField)
	}
	return n
}

func appendResource(b []byte, i *item, url string, ttl bool) []byte {
	b = appendString(b, resourceVersion, i.version)
	b = appendAny(b, url, i.body, bodyName(i, url))
	b = appendString(b, resourceName, i.name)
	for _, a := range i.aliases {
		b = appendString(b, resourceAliases, a)
	}
	if ttl {
		b = append(b, i.ttlField...)
	}
	return b
}

// appendBare adds the Resource of a heartbeat: all but the body.
func appendBare(b []byte, i *item) []byte {
	b = appendString(b, resourceVersion, i.version)
	b = appendString(b, resourceName, i.name)
	return append(b, i.ttlField...)
}

// ttlField encodes a Resource's time to live.
func ttlField(ttl time.Duration) []byte {
	var d []byte
	d = protowire.AppendTag(d, durationSeconds, protowire.VarintType)
	d = protowire.AppendVarint(d, uint64(ttl/time.Second))
	d = protowire.AppendTag(d, durationNanos, protowire.VarintType)
	d = protowire.AppendVarint(d, uint64(ttl%time.Second))
	return protowire.AppendBytes(protowire.AppendTag(nil, resourceTTL, protowire.BytesType), d)
}

// appendMissed adds the Resource of a name that leads nowhere: the name, also
// as an alias, and nothing else.
func appendMissed(b []byte, name string) []byte {
	b = protowire.AppendTag(b, responseResources, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(stringSize(resourceName, name)+stringSize(resourceAliases, name)))
	b = appendString(b, resourceName, name)
	return appendString(b, resourceAliases, name)
}
