package resource

import (
	"cmp"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// node is a message in a tree of messages.
type node struct {
	path string
	m    protoreflect.Message
	// whole: the top of the tree, or the content of an Any.
	whole bool
}

// visit calls f with a message and every one below it, inside every Any of
// known type too.
func (r resolver) visit(n node, f func(n node)) {
	a, ok := n.m.Interface().(*anypb.Any)
	if !ok {
		f(n)
		eachMessage(n.m, func(name func() string, sub protoreflect.Message) {
			r.visit(node{path: join(n.path, name()), m: sub}, f)
		})
		return
	}
	mt, known := r.known(a.TypeUrl)
	if !known {
		f(n)
		return
	}
	inner := node{path: n.path, m: mt.New(), whole: true}
	if wellKnown(mt.Descriptor()) {
		inner.path = join(n.path, keyValue)
	}
	if proto.Unmarshal(a.Value, inner.m.Interface()) == nil { // it was marshalled here
		r.visit(inner, f)
	}
}

// eachMessage calls f with the messages directly below m and their names in
// it, in a fixed order. Values of free form end the descent: nothing that is
// looked for is in them.
func eachMessage(m protoreflect.Message, f func(name func() string, sub protoreflect.Message)) {
	if wellKnown(m.Descriptor()) {
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap() && fd.MapValue().Message() != nil:
			for _, k := range mapKeys(v.Map()) {
				f(func() string { return keyed(fd.TextName(), k.String()) }, v.Map().Get(k).Message())
			}
		case fd.IsMap() || fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				f(func() string { return indexed(fd.TextName(), i) }, v.List().Get(i).Message())
			}
		default:
			f(fd.TextName, v.Message())
		}
		return true
	})
}

func mapKeys(m protoreflect.Map) []protoreflect.MapKey {
	keys := make([]protoreflect.MapKey, 0, m.Len())
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k)
		return true
	})
	slices.SortFunc(keys, func(a, b protoreflect.MapKey) int { return cmp.Compare(a.String(), b.String()) })
	return keys
}
