package resource

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// wellKnown reports whether a message has a JSON form of its own.
func wellKnown(md protoreflect.MessageDescriptor) bool {
	if md.FullName().Parent() != "google.protobuf" {
		return false
	}
	switch md.Name() {
	case "Any", "Timestamp", "Duration", "Struct", "Value", "ListValue", "FieldMask",
		"BoolValue", "Int32Value", "Int64Value", "UInt32Value", "UInt64Value",
		"FloatValue", "DoubleValue", "StringValue", "BytesValue":
		return true
	}
	return false
}

// scalarFits reports whether protojson takes a value for a scalar field.
func scalarFits(f protoreflect.FieldDescriptor, value any) bool {
	switch f.Kind() {
	case protoreflect.BoolKind:
		_, ok := value.(bool)
		return ok
	case protoreflect.StringKind:
		_, ok := value.(string)
		return ok
	case protoreflect.BytesKind:
		text, ok := value.(string)
		return ok && isBase64(text)
	case protoreflect.EnumKind:
		return enumFits(f.Enum(), value)
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return floatFits(value)
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return intFits(value, math.MinInt32, math.MaxInt32)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return intFits(value, math.MinInt64, math.MaxInt64)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return uintFits(value, math.MaxUint32)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return uintFits(value, math.MaxUint64)
	}
	return true // left to protojson
}

// isBase64 takes all four forms of base64, as protojson does.
func isBase64(text string) bool {
	text = strings.TrimRight(text, "=")
	_, std := base64.RawStdEncoding.DecodeString(text)
	_, url := base64.RawURLEncoding.DecodeString(text)
	return std == nil || url == nil
}

func enumFits(ed protoreflect.EnumDescriptor, value any) bool {
	switch v := value.(type) {
	case string:
		return ed.Values().ByName(protoreflect.Name(v)) != nil
	case json.Number:
		return intFits(v, math.MinInt32, math.MaxInt32)
	}
	return value == nil && ed.FullName() == "google.protobuf.NullValue"
}

// number returns the text of a number, which may stand in a string.
func number(value any) (string, bool) {
	switch v := value.(type) {
	case json.Number:
		return v.String(), true
	case string:
		return v, v != "" && strings.TrimSpace(v) == v
	}
	return "", false
}

func floatFits(value any) bool {
	text, ok := number(value)
	if !ok {
		return false
	}
	switch text {
	case "NaN", "Infinity", "-Infinity":
		return true
	}
	_, err := strconv.ParseFloat(text, 64)
	return err == nil
}

func intFits(value any, low, high int64) bool {
	text, ok := number(value)
	if !ok {
		return false
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return low <= n && n <= high
	}
	// 1e3 and 5.0 are integers too.
	x, err := strconv.ParseFloat(text, 64)
	return err == nil && x == math.Trunc(x) && float64(low) <= x && x <= float64(high)
}

func uintFits(value any, high uint64) bool {
	text, ok := number(value)
	if !ok {
		return false
	}
	if n, err := strconv.ParseUint(text, 10, 64); err == nil {
		return n <= high
	}
	x, err := strconv.ParseFloat(text, 64)
	return err == nil && x == math.Trunc(x) && 0 <= x && x <= float64(high)
}

// kindOf names the kind of a JSON value.
func kindOf(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case json.Number:
		return "a number"
	case string:
		return "a string"
	case []any:
		return "an array"
	}
	return "an object"
}

// kindName names what a field wants.
func kindName(f protoreflect.FieldDescriptor) string {
	if f.Enum() == nil {
		return f.Kind().String()
	}
	names := make([]string, min(f.Enum().Values().Len(), 8))
	for i := range names {
		names[i] = string(f.Enum().Values().Get(i).Name())
	}
	return string(f.Enum().Name()) + " (" + strings.Join(names, ", ") + ")"
}

// shown quotes a value for a message, cut short.
func shown(value any) string {
	raw, err := json.Marshal(value)
	if err != nil {
		return kindOf(value)
	}
	const most = 60
	if len(raw) > most {
		return strings.ToValidUTF8(string(raw[:most]), "") + "..."
	}
	return string(raw)
}

func quote(s string) string { return strconv.Quote(s) }

func indexed(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }
