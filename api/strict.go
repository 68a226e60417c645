package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/org/envoy-control-plane/api/wire"
)

// maxMistakes bounds what a bad body costs. Who made so many will not read on.
const maxMistakes = 1000

// strict decodes a body and collects every mistake in it, each with its path.
type strict struct {
	errs []wire.FieldError
}

// field decodes the value of one field.
type field func(path string, raw json.RawMessage)

func (d *strict) fail(code wire.Code, path, format string, args ...any) {
	d.errs = append(d.errs, wire.FieldError{Path: path, Detail: fmt.Sprintf(format, args...), Code: code})
}

// err returns the problem with all mistakes, nil when there are none.
func (d *strict) err() error {
	if len(d.errs) == 0 {
		return nil
	}
	return refuseAll(d.errs)
}

// object decodes a JSON object. A field that is not in the table, or that is
// there twice, is a mistake; null counts as absent.
func (d *strict) object(path string, raw json.RawMessage, fields map[string]field) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		d.fail(wire.CodeInvalid, path, "an object is needed, not %s", kindOf(raw))
		return
	}
	seen := map[string]bool{}
	for decoder.More() && len(d.errs) < maxMistakes {
		token, err := decoder.Token()
		name, ok := token.(string)
		var value json.RawMessage
		if err != nil || !ok || decoder.Decode(&value) != nil {
			d.fail(wire.CodeMalformedJSON, path, "the object cannot be read")
			return
		}
		at := join(path, name)
		decode, known := fields[name]
		switch {
		case seen[name]:
			d.fail(wire.CodeInvalid, at, "the field is there twice")
		case !known:
			d.fail(wire.CodeUnknownField, at, "there is no such field; there are %s", names(fields))
		case string(value) != "null":
			decode(at, value)
		}
		seen[name] = true
	}
}

// into decodes a plain value.
func into[T any](d *strict, to *T, what string) field {
	return func(path string, raw json.RawMessage) {
		if err := json.Unmarshal(raw, to); err != nil {
			d.fail(wire.CodeInvalid, path, "%s is needed, not %s", what, kindOf(raw))
		}
	}
}

// text decodes a string of at most limit bytes.
func (d *strict) text(to *string, limit int) field {
	decode := into(d, to, "a string")
	return func(path string, raw json.RawMessage) {
		decode(path, raw)
		if len(*to) > limit {
			d.fail(wire.CodeInvalid, path, "at most %d bytes are allowed, not %d", limit, len(*to))
		}
	}
}

// list decodes an array, item by item.
func (d *strict) list(item field) field {
	return func(path string, raw json.RawMessage) {
		var items []json.RawMessage
		if err := json.Unmarshal(raw, &items); err != nil {
			d.fail(wire.CodeInvalid, path, "an array is needed, not %s", kindOf(raw))
			return
		}
		for i, value := range items {
			if len(d.errs) >= maxMistakes {
				return
			}
			item(fmt.Sprintf("%s[%d]", path, i), value)
		}
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func names(fields map[string]field) string {
	if len(fields) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(fields)), ", ")
}

// kindOf names what a JSON value is, for people.
func kindOf(raw json.RawMessage) string {
	switch raw = bytes.TrimSpace(raw); {
	case len(raw) == 0:
		return "nothing"
	case raw[0] == '{':
		return "an object"
	case raw[0] == '[':
		return "an array"
	case raw[0] == '"':
		return "a string"
	case raw[0] == 't' || raw[0] == 'f':
		return "a boolean"
	case raw[0] == 'n':
		return "null"
	}
	if len(raw) > 40 {
		return "a number"
	}
	return string(raw)
}
