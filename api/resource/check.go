package resource

import (
	"bytes"
	"strings"

	"github.com/cncf/xds/go/udpa/annotations"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/org/envoy-control-plane/api/wire"
)

// visit calls f with m and every message below it, inside every Any of known
// type too, each with its path.
func (d *Decoder) visit(path string, m protoreflect.Message, f func(path string, m protoreflect.Message)) {
	if a, ok := m.Interface().(*anypb.Any); ok {
		mt, known := d.types.known(a.TypeUrl)
		if !known {
			return
		}
		inner := mt.New()
		if proto.Unmarshal(a.Value, inner.Interface()) == nil { // it was marshalled here
			d.visit(path, inner, f)
		}
		return
	}
	f(path, m)
	eachMessage(m, func(name string, sub protoreflect.Message) bool {
		d.visit(join(path, name), sub, f)
		return true
	})
}

// validator is what protoc-gen-validate makes.
type validator interface{ ValidateAll() error }

// check holds a message and all below it against the rules of their
// definitions, and refuses secrets in clear.
func (d *Decoder) check(path string, m protoreflect.Message, ps *problems) {
	d.validate(path, m, ps)
	d.visit(path, m, func(at string, m protoreflect.Message) { secrets(at, m, ps) })
}

// validate runs the rules of a message, which cover its fields but not what
// is in an Any, and then those of every Any.
func (d *Decoder) validate(path string, m protoreflect.Message, ps *problems) {
	if v, ok := m.Interface().(validator); ok {
		violations(path, m.Descriptor(), v.ValidateAll(), ps)
	}
	d.validateAnys(path, m, ps)
}

func (d *Decoder) validateAnys(path string, m protoreflect.Message, ps *problems) {
	eachMessage(m, func(name string, sub protoreflect.Message) bool {
		at := join(path, name)
		a, ok := sub.Interface().(*anypb.Any)
		if !ok {
			d.validateAnys(at, sub, ps)
			return true
		}
		if mt, known := d.types.known(a.TypeUrl); known {
			inner := mt.New()
			if proto.Unmarshal(a.Value, inner.Interface()) == nil {
				d.validate(at, inner, ps)
			}
		}
		return true
	})
}

// violation is one of protoc-gen-validate's errors.
type violation interface {
	Field() string
	Reason() string
	Cause() error
}

// violations reports the leaves of a tree of errors. md is the message that
// they are about, nil when it is not known.
func violations(path string, md protoreflect.MessageDescriptor, err error, ps *problems) {
	if many, ok := err.(interface{ AllErrors() []error }); ok {
		for _, e := range many.AllErrors() {
			violations(path, md, e, ps)
		}
		return
	}
	v, ok := err.(violation)
	if !ok {
		if err != nil {
			ps.add(path, wire.CodeInvalidResource, "%v", err)
		}
		return
	}
	name, sub := jsonField(md, v.Field())
	at := join(path, name)
	if v.Cause() != nil {
		violations(at, sub, v.Cause(), ps)
		return
	}
	ps.add(at, wire.CodeInvalidResource, "%s", v.Reason())
}

// jsonField turns the Go name of a field, "FilterChains[0]", into the name in
// JSON, "filter_chains[0]", and returns the message of the field.
func jsonField(md protoreflect.MessageDescriptor, field string) (string, protoreflect.MessageDescriptor) {
	name, index, _ := strings.Cut(field, "[")
	if index != "" {
		index = "[" + index
	}
	if md == nil {
		return name + index, nil
	}
	for i := range md.Fields().Len() {
		f := md.Fields().Get(i)
		if !strings.EqualFold(strings.ReplaceAll(string(f.Name()), "_", ""), strings.ReplaceAll(name, "_", "")) {
			continue
		}
		if f.IsMap() {
			return f.TextName() + index, f.MapValue().Message()
		}
		return f.TextName() + index, f.Message()
	}
	for i := range md.Oneofs().Len() {
		one := md.Oneofs().Get(i)
		if strings.EqualFold(strings.ReplaceAll(string(one.Name()), "_", ""), name) {
			return string(one.Name()), nil
		}
	}
	return name + index, nil
}

var privateKey = []byte("PRIVATE KEY-----")

// secrets refuses secret material in the message itself: a field marked
// sensitive that holds something, or a private key in any data source.
func secrets(path string, m protoreflect.Message, ps *problems) {
	if source, ok := m.Interface().(*corev3.DataSource); ok {
		if bytes.Contains(inline(source), privateKey) {
			refuseSecret(path, ps)
		}
		return
	}
	m.Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if sensitive(f) && f.Message() == nil {
			refuseSecret(join(path, f.TextName()), ps)
		}
		return true
	})
	eachMessage(m, func(name string, sub protoreflect.Message) bool {
		field, _, _ := strings.Cut(name, "[")
		if sensitive(m.Descriptor().Fields().ByTextName(field)) && inClear(sub) {
			refuseSecret(join(path, name), ps)
		}
		return true
	})
}

// inClear reports whether the value of a sensitive field holds the secret
// itself. A private key in a data source is reported where it is.
func inClear(m protoreflect.Message) bool {
	switch v := m.Interface().(type) {
	case *corev3.DataSource:
		return len(inline(v)) > 0 && !bytes.Contains(inline(v), privateKey)
	case *wrapperspb.StringValue:
		return v.GetValue() != ""
	case *wrapperspb.BytesValue:
		return len(v.GetValue()) > 0
	}
	return false
}

func refuseSecret(path string, ps *problems) {
	ps.add(path, wire.CodeInlineSecret, "secrets are not part of a configuration; name a file, an environment variable or an SDS secret")
}

func sensitive(f protoreflect.FieldDescriptor) bool {
	is, _ := proto.GetExtension(f.Options(), annotations.E_Sensitive).(bool)
	return is
}

// inline returns the data that a source holds itself.
func inline(s *corev3.DataSource) []byte {
	if b := s.GetInlineBytes(); len(b) > 0 {
		return b
	}
	return []byte(s.GetInlineString())
}
