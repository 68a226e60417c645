package resource

import (
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "github.com/org/envoy-control-plane/api/resource/types" // every type that may be sent
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// Decoder checks and converts resources. The zero value is not ready; use
// New.
type Decoder struct {
	types resolver
}

// New returns a Decoder of all the types that this build knows.
func New() *Decoder { return &Decoder{types: resolver{protoregistry.GlobalTypes}} }

// Decode reads one item of a change set: a message with its @type, the
// Resource form of the xDS protocol (name, aliases, ttl, resource), or a
// virtual host with a route_config beside its fields. Every problem's path
// begins with path.
func (d *Decoder) Decode(path string, raw []byte) (*fsmpb.Resource, []wire.FieldError) {
	ps := &problems{}
	value, ok := ps.parse(path, raw)
	if !ok {
		return nil, ps.all()
	}
	it := d.item(path, value, ps)
	if it == nil {
		return nil, ps.all()
	}
	res := d.resource(it, ps)
	if len(ps.list) > 0 {
		return nil, ps.all()
	}
	return res, nil
}

// parseAs reads JSON of a type, with or without its @type, which is taken out;
// ok is false when it is not JSON, or of another type.
func (d *Decoder) parseAs(typeURL string, raw []byte, ps *problems) (value map[string]any, ok bool) {
	if value, ok = ps.parse("", raw); !ok {
		return nil, false
	}
	if given, ok := value[keyType]; ok {
		url, _ := given.(string)
		if t, err := d.types.resource(url); err != nil || t != typeURL {
			ps.add(keyType, wire.CodeUnknownType, "it must be %s", typeURL)
			return nil, false
		}
		delete(value, keyType)
	}
	return value, true
}

// JSON returns a stored message as JSON with its @type; where it has spaces is up
// to the build. Bytes of a type that this build does not know come as {"@type",
// "value": base64}.
func (d *Decoder) JSON(typeURL string, body []byte) ([]byte, error) {
	raw, err := d.types.render(typeURL, body)
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", typeURL, err)
	}
	return raw, nil
}

// Extract returns what a stored message needs and binds, as Decode does of one
// that is sent.
func (d *Decoder) Extract(typeURL string, body []byte) (references []*fsmpb.Reference, bound []string, err error) {
	mt, known := d.types.known(typeURL)
	if !known {
		return nil, nil, fmt.Errorf("this build knows no type %q", cut(typeURL))
	}
	m := mt.New()
	if err := proto.Unmarshal(body, m.Interface()); err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", typeURL, err)
	}
	return d.references(m), binds(m), nil
}

// resource checks an item and makes what the state holds of it.
func (d *Decoder) resource(it *item, ps *problems) *fsmpb.Resource {
	switch it.typeURL {
	case fsm.TypeEndpoints, fsm.TypeSecret:
		ps.add(it.path, wire.CodeNotStaged, "%s are live, they are not part of a change set: use the %s routes",
			fsm.ShortType(it.typeURL), fsm.ShortType(it.typeURL))
		return nil
	}
	m := d.message(it.body, it.typeURL, it.value, ps)
	if m == nil {
		return nil
	}
	it.complete(m, ps)
	ps.name(it.namePath, it.name)
	if len(ps.list) > 0 {
		return nil
	}
	body, err := marshal(m)
	if err != nil {
		ps.add(it.path, wire.CodeInvalidResource, "%v", err)
		return nil
	}
	return &fsmpb.Resource{
		TypeUrl: it.typeURL, Name: it.name, Body: body, Aliases: it.aliases, TtlMs: it.ttl.Milliseconds(),
		Hash:       fsm.ResourceHash(body, it.aliases, it.ttl.Milliseconds()),
		References: d.references(m), Binds: binds(m),
	}
}

// message checks a JSON object, which it changes, against a type. What the
// walk finds wrong it takes out, so that the rules of the rest are checked in
// the same go; the message is then without it, and nil if nothing could be
// made.
func (d *Decoder) message(path, typeURL string, value map[string]any, ps *problems) protoreflect.Message {
	before := len(ps.list)
	mt, known := d.types.known(typeURL)
	if !known {
		ps.add(join(path, keyType), wire.CodeUnknownType, "this build knows no type %q", cut(typeURL))
		return nil
	}
	w := &walker{types: d.types, ps: ps}
	w.message(path, mt.Descriptor(), value, 0)
	raw, err := json.Marshal(value)
	if err != nil {
		ps.add(path, wire.CodeInvalidResource, "%v", err)
		return nil
	}
	m := mt.New()
	err = protojson.UnmarshalOptions{Resolver: d.types}.Unmarshal(raw, m.Interface())
	if err == nil {
		err = d.types.unwrap(m)
	}
	if err != nil {
		if len(ps.list) == before { // else it may be about what was taken out
			text := protoText(err)
			if ps.material {
				text = "it cannot be read as " + string(mt.Descriptor().FullName())
			}
			ps.add(path, wire.CodeInvalidResource, "%s", text)
		}
		return nil
	}
	c := &checker{types: d.types, ps: ps, out: w.out}
	c.check(path, m)
	return m
}

func marshal(m protoreflect.Message) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(m.Interface())
}

// protoText takes the decoder's own prefix, whose spaces differ from build to
// build, off its message.
func protoText(err error) string {
	text := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	return strings.TrimSpace(strings.TrimPrefix(text, "proto:"))
}
