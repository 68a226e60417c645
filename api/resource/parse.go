package resource

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/org/envoy-control-plane/api/wire"
)

// maxDepth bounds how deep JSON may be nested, and the messages in it. Envoy
// reads no message that is nested deeper.
const maxDepth = 100

// parse reads a JSON object. Numbers keep their digits; a key that is there
// twice, which would silently hide one of its values, is a mistake.
func (ps *problems) parse(path string, raw []byte) (map[string]any, bool) {
	var all json.RawMessage // the whole input, nothing behind it
	if err := json.Unmarshal(raw, &all); err != nil {
		ps.add(path, wire.CodeMalformedJSON, "%v", err)
		return nil, false
	}
	if !utf8.Valid(raw) {
		ps.add(path, wire.CodeMalformedJSON, "the text is not UTF-8")
		return nil, false
	}
	if deeper(raw, maxDepth) {
		ps.add(path, wire.CodeInvalidResource, "nested deeper than %d", maxDepth)
		return nil, false
	}
	r := reader{tokens: json.NewDecoder(bytes.NewReader(raw)), ps: ps}
	r.tokens.UseNumber()
	value := r.value(path)
	object, ok := value.(map[string]any)
	if !ok {
		ps.add(path, wire.CodeInvalidResource, "an object is wanted, not %s", kindOf(value))
	}
	return object, ok
}

// deeper reports whether valid JSON is nested deeper than a limit.
func deeper(raw []byte, limit int) bool {
	depth, text := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case text:
		case c == '{' || c == '[':
			if depth++; depth > limit {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// reader makes values of tokens. The text is known to be valid JSON.
type reader struct {
	tokens *json.Decoder
	ps     *problems
}

func (r *reader) value(path string) any {
	token, err := r.tokens.Token()
	if err != nil {
		r.ps.add(path, wire.CodeMalformedJSON, "%v", err)
		return nil
	}
	switch token {
	case json.Delim('{'):
		return r.object(path)
	case json.Delim('['):
		list := []any{}
		for r.tokens.More() {
			list = append(list, r.value(indexed(path, len(list))))
		}
		r.end()
		return list
	}
	return token
}

func (r *reader) object(path string) map[string]any {
	object := map[string]any{}
	for r.tokens.More() {
		token, err := r.tokens.Token()
		key, ok := token.(string)
		if err != nil || !ok {
			r.ps.add(path, wire.CodeMalformedJSON, "a key cannot be read")
			return object
		}
		at := member(path, key)
		if _, twice := object[key]; twice {
			r.ps.add(at, wire.CodeInvalidResource, "the key is there twice")
		}
		object[key] = r.value(at)
	}
	r.end()
	return object
}

// end passes the bracket that More has seen.
func (r *reader) end() { _, _ = r.tokens.Token() }

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

// shown quotes a value for a message, cut short.
func shown(value any) string {
	raw, err := json.Marshal(value)
	if err != nil {
		return kindOf(value)
	}
	return cut(string(raw))
}

// isNumber reports whether text is a number as JSON writes it.
func isNumber(text string) bool {
	return text != "" && strings.IndexByte("-0123456789", text[0]) >= 0 && json.Valid([]byte(text)) && strings.TrimSpace(text) == text
}
