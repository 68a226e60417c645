package resource

import (
	"encoding/json"
	"strconv"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/org/envoy-control-plane/api/wire"
)

// wellKnown reports whether a message has a JSON form of its own.
func wellKnown(md protoreflect.MessageDescriptor) bool {
	return md.FullName().Parent() == "google.protobuf" && wellKnownNames[md.Name()] != ""
}

// wellKnownNames are the messages with a JSON form of their own, and what it
// is.
var wellKnownNames = map[protoreflect.Name]string{
	"Any": "an object with @type", "Struct": "an object", "ListValue": "an array", "Value": "any value",
	"Duration": `a duration like "1.5s"`, "Timestamp": `a time like "2006-01-02T15:04:05Z"`, "FieldMask": `a list like "a,b.c"`,
	"BoolValue": "a boolean", "StringValue": "a string", "BytesValue": "base64",
	"Int32Value": "an integer", "Int64Value": "an integer", "UInt32Value": "an unsigned integer", "UInt64Value": "an unsigned integer",
	"FloatValue": "a number", "DoubleValue": "a number",
}

// wellKnown checks a value of such a message.
func (w *walker) wellKnown(path string, md protoreflect.MessageDescriptor, value any, depth int) bool {
	var fits bool
	switch md.Name() {
	case "Any":
		return w.any(path, value, depth)
	case "Value":
		return w.free(path, value)
	case "Struct":
		if _, fits = value.(map[string]any); fits {
			return w.free(path, value)
		}
	case "ListValue":
		if _, fits = value.([]any); fits {
			return w.free(path, value)
		}
	case "Duration", "Timestamp", "FieldMask":
		fits = w.text(md, value)
	default: // the wrappers
		fits = scalarFits(md.Fields().ByNumber(1), value)
	}
	if !fits {
		w.ps.add(path, wire.CodeInvalidResource, "%s is wanted, not %s", wellKnownNames[md.Name()], w.ps.shown(value))
	}
	return fits
}

// text asks protojson about a message that is written as a string.
func (w *walker) text(md protoreflect.MessageDescriptor, value any) bool {
	text, ok := value.(string)
	mt, err := w.types.FindMessageByName(md.FullName())
	if !ok || err != nil {
		return false
	}
	raw, err := json.Marshal(text)
	return err == nil && protojson.Unmarshal(raw, mt.New().Interface()) == nil
}

// free checks a value of any shape: its numbers must fit.
func (w *walker) free(path string, value any) bool {
	ok := true
	switch v := value.(type) {
	case map[string]any:
		for _, key := range sortedKeys(v) {
			ok = w.free(member(path, key), v[key]) && ok
		}
	case []any:
		for i, e := range v {
			ok = w.free(indexed(path, i), e) && ok
		}
	case json.Number:
		if _, err := strconv.ParseFloat(v.String(), 64); err != nil {
			w.ps.add(path, wire.CodeInvalidResource, "%s is too large for a number", cut(v.String()))
			ok = false
		}
	}
	return ok
}
