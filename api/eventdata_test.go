package api_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// TestEventKindsAreDocumented: each kind of event, and each field of its data,
// with its type.
func TestEventKindsAreDocumented(t *testing.T) {
	kinds := document(t).Components.Schemas["EventData"].Value.Properties
	listed := slices.Sorted(maps.Keys(kinds))
	if is := slices.Sorted(slices.Values(fsm.EventKinds())); !slices.Equal(is, listed) {
		t.Fatalf("the events are\n%v, the document has\n%v", is, listed)
	}
	fields := (&fsmpb.Event{}).ProtoReflect().Descriptor().Oneofs().ByName("data").Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		schema := kinds[string(f.Name())].Value
		if schema.Description == "" {
			t.Errorf("%s has no description", f.Name())
		}
		sameFields(t, string(f.Name()), f.Message(), schema)
	}
}

// sameFields holds a message as events show it against its schema.
func sameFields(t *testing.T, path string, m protoreflect.MessageDescriptor, schema *openapi3.Schema) {
	t.Helper()
	var names []string
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		name := strings.Replace(string(f.Name()), "type_url", "type", 1)
		names = append(names, name)
		ref := schema.Properties[name]
		if ref == nil {
			continue
		}
		is := ref.Value
		if f.IsList() {
			if !is.Type.Is("array") {
				t.Errorf("%s.%s is a list", path, name)
				continue
			}
			is = is.Items.Value
		}
		if want := jsonType(f); !is.Type.Is(want) {
			t.Errorf("%s.%s is %v, not %s", path, name, is.Type, want)
		}
		if f.Message() != nil && !f.IsMap() {
			sameFields(t, path+"."+name, f.Message(), is)
		}
	}
	slices.Sort(names)
	if has := slices.Sorted(maps.Keys(schema.Properties)); !slices.Equal(has, names) {
		t.Errorf("%s has the fields %v, the document %v", path, names, has)
	}
}

func jsonType(f protoreflect.FieldDescriptor) string {
	switch {
	case f.Message() != nil:
		return "object"
	case f.Enum() != nil, slices.Contains([]string{"at", "since", "node_start", "not_before", "not_after", "committed_at"}, string(f.Name())):
		return "string"
	}
	switch f.Kind() {
	case protoreflect.StringKind, protoreflect.BytesKind:
		return "string"
	case protoreflect.BoolKind:
		return "boolean"
	default:
		return "integer"
	}
}
