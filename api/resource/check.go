package resource

import (
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/org/envoy-control-plane/api/wire"
)

// checker holds messages against the rules of their definitions, and refuses
// secrets in clear.
type checker struct {
	types resolver
	ps    *problems
	// out has the paths of what the walk took out of the message.
	out []string
}

// check checks a message and all below it. The generated rules of a message
// cover what is below it, but not what is in an Any.
func (c *checker) check(path string, m protoreflect.Message) {
	c.types.visit(node{path: path, m: m, whole: true}, func(n node) {
		if v, ok := n.m.Interface().(validator); ok && n.whole {
			c.violations(n.path, n.m.Descriptor(), v.ValidateAll())
		}
		if !c.ps.material {
			c.secrets(n)
		}
	})
}

// validator is what protoc-gen-validate makes.
type validator interface{ ValidateAll() error }

// violation is one of protoc-gen-validate's errors.
type violation interface {
	Field() string
	Reason() string
	Cause() error
}

// violations reports the leaves of a tree of errors. md is the message that
// they are about, nil when it is not known.
//
// Once the answer is full it ends: each error is held against all that was
// taken out, and a hostile body has a million of both.
func (c *checker) violations(path string, md protoreflect.MessageDescriptor, err error) {
	if c.ps.full() {
		return
	}
	if many, ok := err.(interface{ AllErrors() []error }); ok {
		for _, e := range many.AllErrors() {
			c.violations(path, md, e)
		}
		return
	}
	v, ok := err.(violation)
	if !ok {
		if err != nil {
			c.ps.add(path, wire.CodeInvalidResource, "%v", err)
		}
		return
	}
	name, sub := jsonField(md, v.Field())
	at := join(path, name)
	switch {
	case c.tookOut(at): // the mistake is known
	case v.Cause() != nil:
		c.violations(at, sub, v.Cause())
	default:
		c.ps.add(at, wire.CodeInvalidResource, "%s", v.Reason())
	}
}

func (c *checker) tookOut(path string) bool {
	for _, out := range c.out {
		if below(path, out) {
			return true
		}
	}
	return false
}

// jsonField turns the Go name of a field, "FilterChains[0]", into the name in
// JSON, "filter_chains[0]", and returns the message of the field.
func jsonField(md protoreflect.MessageDescriptor, field string) (string, protoreflect.MessageDescriptor) {
	name, index, subscripted := strings.Cut(field, "[")
	if subscripted {
		index = "[" + index
	}
	if md == nil {
		return name + index, nil
	}
	for i := range md.Fields().Len() {
		f := md.Fields().Get(i)
		switch {
		case !sameName(f.Name(), name):
		case f.IsMap() && subscripted:
			return keyed(f.TextName(), index[1:len(index)-1]), f.MapValue().Message()
		default:
			return f.TextName() + index, f.Message()
		}
	}
	for i := range md.Oneofs().Len() {
		if one := md.Oneofs().Get(i); sameName(one.Name(), name) {
			return string(one.Name()), nil
		}
	}
	return name + index, nil
}

func sameName(proto protoreflect.Name, goName string) bool {
	return strings.EqualFold(strings.ReplaceAll(string(proto), "_", ""), strings.ReplaceAll(goName, "_", ""))
}
