package resource

import (
	"encoding/base64"
	"encoding/json"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/org/envoy-control-plane/api/wire"
)

// walker holds JSON against message descriptors to find every mistake with
// its path; protojson, which has the last word, stops at the first and gives
// no path.
type walker struct {
	types resolver
	ps    *problems
}

const (
	nameAny = "google.protobuf.Any"
	// The keys of an Any in JSON.
	keyType, keyValue = "@type", "value"
)

// message checks an object against the fields of a message.
func (w *walker) message(path string, md protoreflect.MessageDescriptor, value any, depth int) {
	if depth > maxDepth {
		w.ps.add(path, wire.CodeInvalidResource, "nested deeper than %d", maxDepth)
		return
	}
	if wellKnown(md) {
		w.wellKnown(path, md, value, depth)
		return
	}
	object, ok := value.(map[string]any)
	if !ok {
		w.ps.add(path, wire.CodeInvalidResource, "an object is wanted, not %s", kindOf(value))
		return
	}
	chosen := map[protoreflect.Name]string{}
	for _, key := range sortedKeys(object) {
		f := fieldOf(md, key)
		at := join(path, key)
		if f == nil {
			w.ps.add(at, wire.CodeUnknownField, "%s has no such field", md.FullName())
			continue
		}
		if object[key] == nil && !takesNull(f) {
			continue
		}
		if one := f.ContainingOneof(); one != nil && !one.IsSynthetic() {
			if other, ok := chosen[one.Name()]; ok {
				w.ps.add(at, wire.CodeInvalidResource, "only one of %s and %s may be set", other, key)
			}
			chosen[one.Name()] = key
		}
		w.field(at, f, object[key], depth)
	}
}

func fieldOf(md protoreflect.MessageDescriptor, key string) protoreflect.FieldDescriptor {
	if f := md.Fields().ByJSONName(key); f != nil {
		return f
	}
	return md.Fields().ByTextName(key)
}

// takesNull reports whether null is a value of the field.
func takesNull(f protoreflect.FieldDescriptor) bool {
	return f.Message() != nil && f.Message().FullName() == "google.protobuf.Value" ||
		f.Enum() != nil && f.Enum().FullName() == "google.protobuf.NullValue"
}

func (w *walker) field(path string, f protoreflect.FieldDescriptor, value any, depth int) {
	switch {
	case f.IsMap():
		object, ok := value.(map[string]any)
		if !ok {
			w.ps.add(path, wire.CodeInvalidResource, "an object is wanted, not %s", kindOf(value))
			return
		}
		for _, key := range sortedKeys(object) {
			w.value(join(path, "["+quote(key)+"]"), f.MapValue(), object[key], depth)
		}
	case f.IsList():
		list, ok := value.([]any)
		if !ok {
			w.ps.add(path, wire.CodeInvalidResource, "an array is wanted, not %s", kindOf(value))
			return
		}
		for i, e := range list {
			w.value(indexed(path, i), f, e, depth)
		}
	default:
		w.value(path, f, value, depth)
	}
}

// value checks one value. Scalars go through protojson in a message of their
// own, so that its rules hold and the path is known.
func (w *walker) value(path string, f protoreflect.FieldDescriptor, value any, depth int) {
	if f.Message() != nil {
		w.message(path, f.Message(), value, depth+1)
		return
	}
	if !scalarFits(f, value) {
		w.ps.add(path, wire.CodeInvalidResource, "%s is no value for %s", shown(value), kindName(f))
	}
}

// wellKnown checks messages with a JSON form of their own.
func (w *walker) wellKnown(path string, md protoreflect.MessageDescriptor, value any, depth int) {
	if md.FullName() == nameAny {
		w.any(path, value, depth)
		return
	}
	raw, err := json.Marshal(value)
	if err == nil {
		err = protojson.UnmarshalOptions{Resolver: w.types}.Unmarshal(raw, dynamicpb.NewMessage(md))
	}
	if err != nil {
		w.ps.add(path, wire.CodeInvalidResource, "%s is no %s", shown(value), md.Name())
	}
}

// any checks a message behind its @type.
func (w *walker) any(path string, value any, depth int) {
	object, ok := value.(map[string]any)
	if !ok {
		w.ps.add(path, wire.CodeInvalidResource, "an object with @type is wanted, not %s", kindOf(value))
		return
	}
	url, ok := object[keyType].(string)
	if !ok {
		w.ps.add(join(path, keyType), wire.CodeUnknownType, "it is missing")
		return
	}
	mt, known := w.types.known(url)
	if !known {
		w.opaque(path, url, object)
		return
	}
	rest := make(map[string]any, len(object))
	for k, v := range object {
		if k != keyType {
			rest[k] = v
		}
	}
	if !wellKnown(mt.Descriptor()) {
		w.message(path, mt.Descriptor(), rest, depth+1)
		return
	}
	inner, ok := rest[keyValue]
	if !ok || len(rest) != 1 {
		w.ps.add(path, wire.CodeInvalidResource, "%s has its content under %q", url, keyValue)
		return
	}
	w.message(join(path, keyValue), mt.Descriptor(), inner, depth+1)
}

// opaque passes bytes of a type that this build does not know.
func (w *walker) opaque(path, url string, object map[string]any) {
	text, ok := object[keyValue].(string)
	if !ok || len(object) != 2 {
		w.ps.add(join(path, keyType), wire.CodeUnknownType,
			"this build knows no type %q; send a TypedStruct, or its bytes as \"value\" in base64", url)
		return
	}
	if _, err := base64.StdEncoding.DecodeString(text); err != nil {
		w.ps.add(join(path, keyValue), wire.CodeInvalidResource, "it is not base64")
	}
}

func sortedKeys(object map[string]any) []string {
	keys := make([]string, 0, len(object))
	for k := range object {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
