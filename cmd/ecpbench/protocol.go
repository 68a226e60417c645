package main

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/org/envoy-control-plane/fsm"
)

// protocol is one of the two forms of xDS, as --protocol names it.
type protocol string

const (
	stateOfTheWorld protocol = "sotw"
	delta           protocol = "delta"
)

const aggregatedService = "envoy.service.discovery.v3.AggregatedDiscoveryService"

func (p protocol) method() string {
	if p == delta {
		return "DeltaAggregatedResources"
	}
	return "StreamAggregatedResources"
}

// Field numbers of the requests of both protocols, and of their responses.
// Type and nonce are the same in both responses.
const (
	stateVersion, stateNode, stateNames, stateType, stateNonce      = 1, 2, 3, 4, 5
	deltaNode, deltaType, deltaSubscribe, deltaInitial, deltaNonce  = 1, 2, 3, 5, 6
	responseVersion, responseResources, responseType, responseNonce = 1, 2, 4, 5
	resourceVersion, resourceName                                   = 1, 3
	entryKey, entryValue                                            = 1, 2
	nodeID, nodeCluster                                             = 1, 2
)

func appendString[S string | []byte](b []byte, field protowire.Number, s S) []byte {
	b = protowire.AppendTag(b, field, protowire.BytesType)
	return append(protowire.AppendVarint(b, uint64(len(s))), s...)
}

// encodeNames is the list of names of a subscription, shared by the requests
// of all proxies.
func (p protocol) encodeNames(names []string) []byte {
	field := protowire.Number(stateNames)
	if p == delta {
		field = deltaSubscribe
	}
	var b []byte
	for _, n := range names {
		b = appendString(b, field, n)
	}
	return b
}

// node is who a proxy is, which the first request of a stream tells.
func (p protocol) node(id, fleet string) []byte {
	field := protowire.Number(stateNode)
	if p == delta {
		field = deltaNode
	}
	return appendString(nil, field, appendString(appendString(nil, nodeID, id), nodeCluster, fleet))
}

// subscribe is the first request for a type, in which other encoded fields
// follow: node, names (without, all of the type is meant), what the proxy has.
func (p protocol) subscribe(typeURL string, fields ...[]byte) payload {
	field := protowire.Number(stateType)
	if p == delta {
		field = deltaType
	}
	return append(payload{appendString(nil, field, typeURL)}, fields...)
}

// ack accepts a response. In the state of the world the subscription is told
// again.
func (p protocol) ack(r *response, names []byte) payload {
	b := make([]byte, 0, 160)
	if p == delta {
		b = appendString(b, deltaType, r.typeURL)
		return payload{appendString(b, deltaNonce, r.nonce)}
	}
	b = appendString(b, stateVersion, r.version)
	b = appendString(b, stateType, r.typeURL)
	return payload{appendString(b, stateNonce, r.nonce), names}
}

// response is what a proxy looks at in a response of either protocol.
type response struct {
	typeURL, version, nonce string
	resources               int // bytes
	// keep: the whole of it is kept.
	keep bool
	kept []byte
	// wanted is the change that is looked for, got says that it is in here.
	wanted func() *wave
	got    *wave
}

func (r *response) decode(b []byte) error {
	r.typeURL, r.version, r.nonce, r.got, r.resources = "", "", "", nil, 0
	if r.keep {
		r.kept = bytes.Clone(b)
	}
	for rest := b; len(rest) > 0; {
		field, kind, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return fmt.Errorf("decode response: %w", protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(field, kind, rest[n:])
		if size < 0 {
			return fmt.Errorf("decode response: %w", protowire.ParseError(size))
		}
		if kind == protowire.BytesType {
			r.field(field, rest[n:n+size])
		}
		rest = rest[n+size:]
	}
	if w := r.wanted(); w != nil && r.typeURL == fsm.TypeEndpoints && bytes.Contains(b, w.marker) {
		r.got = w
	}
	return nil
}

func (r *response) field(field protowire.Number, value []byte) {
	if field == responseResources {
		r.resources += len(value)
		return
	}
	if field != responseVersion && field != responseType && field != responseNonce {
		return
	}
	text, _ := protowire.ConsumeBytes(value) // the field was consumed before
	switch field {
	case responseVersion:
		r.version = string(text)
	case responseType:
		r.typeURL = intern(text)
	case responseNonce:
		r.nonce = string(text)
	}
}

// intern saves a copy of the types that are used here.
func intern(typeURL []byte) string {
	switch string(typeURL) {
	case fsm.TypeEndpoints:
		return fsm.TypeEndpoints
	case fsm.TypeCluster:
		return fsm.TypeCluster
	case fsm.TypeListener:
		return fsm.TypeListener
	default:
		return string(typeURL)
	}
}
