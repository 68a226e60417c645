package fsm

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// EventKind returns what happened, "revision_created": the name of the field
// that holds the event's data.
func EventKind(ev *fsmpb.Event) string {
	if f := eventField(ev); f != nil {
		return string(f.Name())
	}
	return ""
}

// EventKinds lists the kinds of events that there are.
func EventKinds() []string {
	fields := (&fsmpb.Event{}).ProtoReflect().Descriptor().Oneofs().ByName("data").Fields()
	kinds := make([]string, fields.Len())
	for i := range kinds {
		kinds[i] = string(fields.Get(i).Name())
	}
	return kinds
}

func eventField(ev *fsmpb.Event) protoreflect.FieldDescriptor {
	m := ev.ProtoReflect()
	return m.WhichOneof(m.Descriptor().Oneofs().ByName("data"))
}

// EventData returns an event's data as a JSON object with the names of the
// protocol's fields. Type URLs appear as "type" in their short form, times in
// RFC 3339, enums in lower case.
func EventData(ev *fsmpb.Event) ([]byte, error) {
	f := eventField(ev)
	if f == nil {
		return []byte("{}"), nil
	}
	data, err := json.Marshal(plain(ev.ProtoReflect().Get(f).Message()))
	if err != nil {
		return nil, fmt.Errorf("event %d: %w", ev.Seq, err)
	}
	return data, nil
}

// timeFields hold nanoseconds since the Unix epoch.
var timeFields = map[protoreflect.Name]bool{
	"at": true, "since": true, "node_start": true, "first_seen": true, "changed_at": true,
	"not_before": true, "not_after": true, "committed_at": true,
}

// plain returns a message as what encoding/json renders as an object. Fields
// without a value are left out.
func plain(m protoreflect.Message) map[string]any {
	out := map[string]any{}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := string(f.Name())
		if name == "type_url" {
			out["type"] = ShortType(v.String())
			return true
		}
		switch {
		case f.IsMap():
			labels := map[string]any{}
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				labels[k.String()] = plainValue(f.MapValue(), v)
				return true
			})
			out[name] = labels
		case f.IsList():
			items := make([]any, v.List().Len())
			for i := range items {
				items[i] = plainValue(f, v.List().Get(i))
			}
			out[name] = items
		default:
			out[name] = plainValue(f, v)
		}
		return true
	})
	return out
}

func plainValue(f protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch {
	case f.Message() != nil:
		return plain(v.Message())
	case f.Enum() != nil:
		return enumName(f.Enum(), v.Enum())
	case timeFields[f.Name()]:
		return time.Unix(0, v.Int()).UTC().Format(time.RFC3339Nano)
	}
	return v.Interface()
}

func enumName(e protoreflect.EnumDescriptor, n protoreflect.EnumNumber) any {
	v := e.Values().ByNumber(n)
	if v == nil {
		return int32(n)
	}
	return strings.ToLower(string(v.Name()))
}
