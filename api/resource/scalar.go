package resource

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

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
	case protoreflect.FloatKind:
		return floatFits(value, 32)
	case protoreflect.DoubleKind:
		return floatFits(value, 64)
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

// isBase64 takes the forms of base64 that protojson takes: either alphabet,
// padded or not.
func isBase64(text string) bool {
	encoding := base64.StdEncoding
	if strings.ContainsAny(text, "-_") {
		encoding = base64.URLEncoding
	}
	if len(text)%4 != 0 {
		encoding = encoding.WithPadding(base64.NoPadding)
	}
	_, err := encoding.DecodeString(text)
	return err == nil
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
		return v, isNumber(v)
	}
	return "", false
}

func floatFits(value any, bits int) bool {
	switch value {
	case "NaN", "Infinity", "-Infinity":
		return true
	}
	text, ok := number(value)
	if !ok {
		return false
	}
	_, err := strconv.ParseFloat(text, bits)
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
