package resource

import (
	"bytes"
	"unicode/utf8"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
)

// DecodeEndpoints reads the ClusterLoadAssignment of a service, with or
// without its @type, and returns its bytes and their hash. An absent
// cluster_name is the service's.
func (d *Decoder) DecodeEndpoints(service string, raw []byte) (body, hash []byte, errs []wire.FieldError) {
	if m := plainEndpoints(service, raw); m != nil {
		if body, err := marshal(m.ProtoReflect()); err == nil {
			return body, fsm.ResourceHash(body, nil, 0), nil
		}
	}
	return d.decodeEndpoints(service, raw)
}

// plainEndpoints reads what has nothing wrong or unusual, as nearly all
// endpoints are, and gives anything else back: nil. Services register and
// leave all the time, and this takes a quarter of what looking for every mistake
// with its path does.
//
// Unusual is an Any (@type, typed_filter_metadata) and a place to fetch endpoints
// from (leds_...): without them no field of a ClusterLoadAssignment is marked as
// sensitive, and a private key in some text is the one secret that there could be.
func plainEndpoints(service string, raw []byte) *endpointv3.ClusterLoadAssignment {
	for _, text := range unusual {
		if bytes.Contains(raw, []byte(text)) {
			return nil
		}
	}
	if !utf8.Valid(raw) || deeper(raw, maxDepth) {
		return nil
	}
	m := &endpointv3.ClusterLoadAssignment{}
	if protojson.Unmarshal(raw, m) != nil {
		return nil
	}
	if m.GetClusterName() == "" && !bytes.Contains(raw, []byte("luster")) {
		m.ClusterName = service
	}
	if m.GetClusterName() != service || m.Validate() != nil {
		return nil
	}
	return m
}

// unusual are texts in what is not plain; with an escape there could be any other.
var unusual = [...]string{"@", "typed", "leds", privateKey, `\`}

func (d *Decoder) decodeEndpoints(service string, raw []byte) (body, hash []byte, errs []wire.FieldError) {
	ps := &problems{}
	value, ok := d.parseAs(fsm.TypeEndpoints, raw, ps)
	if !ok {
		return nil, nil, ps.all()
	}
	nameService(service, value, ps)
	m := d.message("", fsm.TypeEndpoints, value, ps)
	if len(ps.list) > 0 {
		return nil, nil, ps.all()
	}
	body, err := marshal(m)
	if err != nil {
		ps.add("", wire.CodeInvalidResource, "%v", err)
		return nil, nil, ps.all()
	}
	return body, fsm.ResourceHash(body, nil, 0), nil
}

// nameService sets an absent cluster_name, and refuses that of another
// service.
func nameService(service string, value map[string]any, ps *problems) {
	given := false
	for _, key := range []string{"cluster_name", "clusterName"} {
		name := value[key]
		given = given || name != nil
		if text, ok := name.(string); ok && text != service {
			ps.add("cluster_name", wire.CodeInvalid, "it must be the service %q", service)
		}
	}
	if !given {
		value["cluster_name"] = service
	}
}
