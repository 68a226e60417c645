package resource

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/org/envoy-control-plane/api/wire"
)

const (
	nameAny   = "google.protobuf.Any"
	nameEmpty = "google.protobuf.Empty"
	// The keys of an Any in JSON.
	keyType, keyValue = "@type", "value"
)

// walker holds JSON against message descriptors to find every mistake with
// its path; protojson, which has the last word, stops at the first and gives
// no path. What is wrong it takes out of the JSON.
type walker struct {
	types resolver
	ps    *problems
	// out has the paths of what was taken out, and of the oneofs that have
	// lost their choice by it: that they are missing is no mistake.
	out []string
}

// message checks an object against the fields of a message. False: it is of
// no use as a whole.
func (w *walker) message(path string, md protoreflect.MessageDescriptor, value any, depth int) bool {
	if depth > maxDepth {
		w.ps.add(path, wire.CodeInvalidResource, "nested deeper than %d", maxDepth)
		return false
	}
	if wellKnown(md) {
		return w.wellKnown(path, md, value, depth)
	}
	object, ok := value.(map[string]any)
	if !ok {
		w.ps.add(path, wire.CodeInvalidResource, "an object is wanted, not %s", kindOf(value))
		return false
	}
	w.fields(path, md, object, depth)
	return true
}

func (w *walker) fields(path string, md protoreflect.MessageDescriptor, object map[string]any, depth int) {
	chosen := map[protoreflect.FullName]string{}
	for _, key := range sortedKeys(object) {
		f := fieldOf(md, key)
		if f == nil {
			w.ps.add(member(path, key), wire.CodeUnknownField, "%s has no such field", md.FullName())
			delete(object, key)
			continue
		}
		if object[key] == nil && !takesNull(f) {
			continue
		}
		at := join(path, f.TextName())
		what := f.FullName() // what may be chosen once: the field, or its oneof
		if one := oneofOf(f); one != nil {
			what = one.FullName()
		}
		if other, ok := chosen[what]; ok {
			w.ps.add(at, wire.CodeInvalidResource, "only one of %s and %s may be set", other, key)
			delete(object, key)
			continue
		}
		chosen[what] = key
		if !w.field(at, f, object[key], depth) {
			delete(object, key)
			w.out = append(w.out, at)
			if one := oneofOf(f); one != nil {
				w.out = append(w.out, join(path, string(one.Name())))
			}
		}
	}
}

func oneofOf(f protoreflect.FieldDescriptor) protoreflect.OneofDescriptor {
	if one := f.ContainingOneof(); one != nil && !one.IsSynthetic() {
		return one
	}
	return nil
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

func (w *walker) field(path string, f protoreflect.FieldDescriptor, value any, depth int) bool {
	switch {
	case f.IsMap():
		object, ok := value.(map[string]any)
		if !ok {
			w.ps.add(path, wire.CodeInvalidResource, "an object is wanted, not %s", kindOf(value))
			return false
		}
		for _, key := range sortedKeys(object) {
			if at := keyed(path, key); !w.value(at, f.MapValue(), object[key], depth) {
				delete(object, key)
				w.out = append(w.out, at)
			}
		}
		return true
	case f.IsList():
		return w.list(path, f, value, depth)
	}
	return w.value(path, f, value, depth)
}

// list checks an array. An element of no use gives its place to an empty
// message, so that the others keep theirs; where there is no such thing, the
// list is of no use.
func (w *walker) list(path string, f protoreflect.FieldDescriptor, value any, depth int) bool {
	list, ok := value.([]any)
	if !ok {
		w.ps.add(path, wire.CodeInvalidResource, "an array is wanted, not %s", kindOf(value))
		return false
	}
	useful := true
	for i, e := range list {
		at := indexed(path, i)
		if w.value(at, f, e, depth) {
			continue
		}
		list[i] = map[string]any{}
		w.out = append(w.out, at)
		useful = useful && f.Message() != nil && (!wellKnown(f.Message()) || f.Message().FullName() == nameAny)
	}
	return useful
}

func (w *walker) value(path string, f protoreflect.FieldDescriptor, value any, depth int) bool {
	if f.Message() != nil {
		return w.message(path, f.Message(), value, depth+1)
	}
	if !scalarFits(f, value) {
		w.ps.add(path, wire.CodeInvalidResource, "%s is no value for %s", w.ps.shown(value), kindName(f))
		return false
	}
	return true
}

// any checks a message behind its @type.
func (w *walker) any(path string, value any, depth int) bool {
	object, ok := value.(map[string]any)
	if !ok {
		w.ps.add(path, wire.CodeInvalidResource, "an object with @type is wanted, not %s", kindOf(value))
		return false
	}
	given, there := object[keyType]
	url, ok := given.(string)
	switch {
	case !there:
		w.ps.add(join(path, keyType), wire.CodeUnknownType, "it is missing")
		return false
	case !ok || !typeURLFits(url):
		w.ps.add(join(path, keyType), wire.CodeUnknownType, "%s is no type URL, like type.googleapis.com/a.b.Message", w.ps.shown(given))
		return false
	}
	mt, known := w.types.known(url)
	if !known {
		return w.opaque(path, url, object)
	}
	delete(object, keyType)
	defer func() { object[keyType] = url }()
	if inner, ok := object[keyValue].(map[string]any); ok && len(inner) == 0 && mt.Descriptor().FullName() == nameEmpty {
		delete(object, keyValue) // protojson takes the one notation, others write the other
	}
	if !wellKnown(mt.Descriptor()) {
		return w.message(path, mt.Descriptor(), object, depth+1)
	}
	inner, ok := object[keyValue]
	if !ok || len(object) != 1 {
		w.ps.add(path, wire.CodeInvalidResource, "%s has its content under %q", cut(url), keyValue)
		return false
	}
	return w.message(join(path, keyValue), mt.Descriptor(), inner, depth+1)
}

// opaque passes bytes of a type that this build does not know.
func (w *walker) opaque(path, url string, object map[string]any) bool {
	text, ok := object[keyValue].(string)
	if !ok || len(object) != 2 {
		w.ps.add(join(path, keyType), wire.CodeUnknownType,
			"this build knows no type %q; send a TypedStruct, or its bytes as \"value\" in base64", cut(url))
		return false
	}
	if !isBase64(text) {
		w.ps.add(join(path, keyValue), wire.CodeInvalidResource, "it is not base64")
		return false
	}
	return true
}

func sortedKeys(object map[string]any) []string { return slices.Sorted(maps.Keys(object)) }
