package resource

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/org/envoy-control-plane/api/wire"
)

const (
	// maxNameBytes bounds a resource's name.
	maxNameBytes = 1024
	// maxProblems bounds an answer.
	maxProblems = 100
	// maxShownBytes bounds what a path or a detail repeats of the input.
	maxShownBytes = 100
)

// problems collects mistakes.
type problems struct {
	list []wire.FieldError
	// dropped counts those beyond maxProblems.
	dropped int
	// material: the input is a secret, of which nothing is repeated.
	material bool
}

func (ps *problems) add(path string, code wire.Code, format string, args ...any) {
	if ps.full() {
		ps.dropped++
		return
	}
	e := wire.FieldError{Path: path, Code: code, Detail: fmt.Sprintf(format, args...)}
	if ps.material {
		e = discreet(e)
	}
	ps.list = append(ps.list, e)
}

// shown quotes a value for a message, cut short; of material it only tells
// what kind of value it is.
func (ps *problems) shown(value any) string {
	if ps.material {
		return kindOf(value)
	}
	return shown(value)
}

// all returns the mistakes, and says when there were more.
func (ps *problems) all() []wire.FieldError {
	if ps.dropped == 0 {
		return ps.list
	}
	last := ps.list[len(ps.list)-1]
	last.Detail += fmt.Sprintf(" (and at least %d more mistakes)", ps.dropped)
	return append(slices.Clone(ps.list[:len(ps.list)-1]), last)
}

// full reports whether further mistakes are not listed.
func (ps *problems) full() bool { return len(ps.list) >= maxProblems }

// has reports whether a mistake at a path is known.
func (ps *problems) has(path string) bool {
	for _, p := range ps.list {
		if p.Path == path {
			return true
		}
	}
	return false
}

// name checks a resource's name, or one of its aliases.
func (ps *problems) name(path, name string) {
	switch {
	case ps.has(path):
	case name == "":
		ps.add(path, wire.CodeInvalidName, "a resource needs a name")
	case len(name) > maxNameBytes:
		ps.add(path, wire.CodeInvalidName, "a name of %d bytes; %d are allowed", len(name), maxNameBytes)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		ps.add(path, wire.CodeInvalidName, "%q holds characters that do not print", name)
	}
}

// join appends to a path; an index begins with its bracket.
func join(path, name string) string {
	if path == "" || strings.HasPrefix(name, "[") {
		return path + name
	}
	return path + "." + name
}

// member appends a key that came with the input: one that does not look like
// a field's name is quoted.
func member(path, key string) string {
	if key == keyType {
		return join(path, key)
	}
	odd := func(r rune) bool {
		return r != '_' && (r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r))
	}
	if key == "" || len(key) > maxShownBytes || strings.ContainsFunc(key, odd) {
		return keyed(path, key)
	}
	return join(path, key)
}

func keyed(path, key string) string { return path + "[" + strconv.Quote(cut(key)) + "]" }

func indexed(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// below reports whether a path is another one or leads into it.
func below(path, top string) bool {
	rest, ok := strings.CutPrefix(path, top)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// cut shortens text of the input for a message.
func cut(text string) string {
	if len(text) <= maxShownBytes {
		return text
	}
	return strings.ToValidUTF8(text[:maxShownBytes], "") + "..."
}
