package resource

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "github.com/org/envoy-control-plane/api/resource/types" // every type that may be sent
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

const (
	// maxNameBytes bounds a resource's name.
	maxNameBytes = 1024
	// maxDepth bounds how deep a message may be nested.
	maxDepth = 100
	// maxProblems bounds an answer.
	maxProblems = 100
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
		return nil, ps.list
	}
	item := ps.item(path, value)
	if item == nil {
		return nil, ps.list
	}
	res := d.resource(item, ps)
	if len(ps.list) > 0 {
		return nil, ps.list
	}
	return res, nil
}

// DecodeEndpoints reads the ClusterLoadAssignment of a service, with or
// without its @type, and returns its bytes and their hash. An absent
// cluster_name is the service's.
func (d *Decoder) DecodeEndpoints(service string, raw []byte) (body, hash []byte, errs []wire.FieldError) {
	ps := &problems{}
	value, ok := ps.parse("", raw)
	if !ok {
		return nil, nil, ps.list
	}
	if t, ok := value["@type"]; ok && t != fsm.TypeEndpoints {
		ps.add("@type", wire.CodeUnknownType, "it must be %s", fsm.TypeEndpoints)
		return nil, nil, ps.list
	}
	delete(value, "@type")
	for _, key := range []string{"cluster_name", "clusterName"} {
		if name, ok := value[key]; ok && name != service {
			ps.add("cluster_name", wire.CodeInvalid, "it must be the service %q", service)
		}
	}
	if value["clusterName"] == nil {
		value["cluster_name"] = service
	}
	m := d.message("", fsm.TypeEndpoints, value, ps)
	if len(ps.list) > 0 {
		return nil, nil, ps.list
	}
	body, err := marshal(m)
	if err != nil {
		ps.add("", wire.CodeInvalidResource, "%v", err)
		return nil, nil, ps.list
	}
	return body, fsm.ResourceHash(body, nil, 0), nil
}

// JSON returns a stored message as JSON with its @type. Bytes of a type that
// this build does not know come as {"@type", "value": base64}.
func (d *Decoder) JSON(typeURL string, body []byte) ([]byte, error) {
	raw, err := d.render(typeURL, body)
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", typeURL, err)
	}
	return raw, nil
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
	out := &fsmpb.Resource{
		TypeUrl: it.typeURL, Name: it.name, Body: body, Aliases: it.aliases, TtlMs: it.ttl.Milliseconds(),
		Hash: fsm.ResourceHash(body, it.aliases, it.ttl.Milliseconds()),
	}
	out.References = d.references(m)
	out.Binds = binds(m)
	return out
}

// message checks a JSON object against a type and returns the message, nil
// when there are problems.
func (d *Decoder) message(path, typeURL string, value map[string]any, ps *problems) protoreflect.Message {
	before := len(ps.list)
	mt, err := protoregistry.GlobalTypes.FindMessageByURL(typeURL)
	if err != nil {
		ps.add(join(path, "@type"), wire.CodeUnknownType, "this build knows no type %q", typeURL)
		return nil
	}
	w := &walker{types: d.types, ps: ps}
	w.message(path, mt.Descriptor(), value, 0)
	if len(ps.list) > before {
		return nil
	}
	raw, err := json.Marshal(value)
	if err != nil {
		ps.add(path, wire.CodeInvalidResource, "%v", err)
		return nil
	}
	m := mt.New()
	if err := (protojson.UnmarshalOptions{Resolver: d.types}).Unmarshal(raw, m.Interface()); err != nil {
		ps.add(path, wire.CodeInvalidResource, "%s", protoText(err))
		return nil
	}
	if err := d.types.unwrap(m); err != nil {
		ps.add(path, wire.CodeInvalidResource, "%v", err)
		return nil
	}
	d.check(path, m, ps)
	if len(ps.list) > before {
		return nil
	}
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

// problems collects mistakes.
type problems struct {
	list []wire.FieldError
}

func (ps *problems) add(path string, code wire.Code, format string, args ...any) {
	if len(ps.list) < maxProblems {
		ps.list = append(ps.list, wire.FieldError{Path: path, Code: code, Detail: fmt.Sprintf(format, args...)})
	}
}

// parse reads a JSON object whose numbers keep their digits.
func (ps *problems) parse(path string, raw []byte) (map[string]any, bool) {
	decoder := json.NewDecoder(strings.NewReader(string(raw)))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		ps.add(path, wire.CodeMalformedJSON, "%v", err)
		return nil, false
	}
	object, ok := value.(map[string]any)
	if !ok {
		ps.add(path, wire.CodeInvalidResource, "an object is wanted, not %s", kindOf(value))
	}
	return object, ok
}

// name checks a resource's name.
func (ps *problems) name(path, name string) {
	switch {
	case name == "":
		ps.add(path, wire.CodeInvalidName, "a resource needs a name")
	case len(name) > maxNameBytes:
		ps.add(path, wire.CodeInvalidName, "a name of %d bytes; %d are allowed", len(name), maxNameBytes)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		ps.add(path, wire.CodeInvalidName, "%q holds characters that do not print", name)
	}
}

// ttlOf reads a duration as protojson writes it.
func ttlOf(value any) (time.Duration, bool) {
	text, ok := value.(string)
	if !ok {
		return 0, false
	}
	ttl, err := time.ParseDuration(text)
	return ttl, err == nil && strings.HasSuffix(text, "s") && ttl >= 0
}

// join appends to a path; an index begins with its bracket.
func join(path, name string) string {
	if path == "" || strings.HasPrefix(name, "[") {
		return path + name
	}
	return path + "." + name
}
