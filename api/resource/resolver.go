package resource

import (
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// resolver finds message types by URL. For one that this build does not know
// it stands a message of bytes in, which is what {"@type", "value": base64}
// decodes to; unwrap then puts the bytes themselves into the Any, and wrap is
// the way back.
type resolver struct {
	*protoregistry.Types
}

// known returns the type of a URL.
func (r resolver) known(url string) (protoreflect.MessageType, bool) {
	mt, err := r.Types.FindMessageByURL(url)
	return mt, err == nil
}

// FindMessageByURL implements what protojson resolves an Any with.
func (r resolver) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	if mt, ok := r.known(url); ok {
		return mt, nil
	}
	return (&wrapperspb.BytesValue{}).ProtoReflect().Type(), nil
}

// unwrap replaces, in every Any of unknown type below m, the message of bytes
// by the bytes.
func (r resolver) unwrap(m protoreflect.Message) error {
	_, err := r.rewrite(m, 0, func(a *anypb.Any) error {
		bytes := &wrapperspb.BytesValue{}
		if err := proto.Unmarshal(a.Value, bytes); err != nil {
			return err
		}
		a.Value = bytes.Value
		return nil
	})
	return err
}

// wrap undoes unwrap.
func (r resolver) wrap(m protoreflect.Message) error {
	_, err := r.rewrite(m, 0, func(a *anypb.Any) error {
		raw, err := proto.Marshal(wrapperspb.Bytes(a.Value))
		a.Value = raw
		return err
	})
	return err
}

// rewrite applies f to every Any of unknown type, inside others too, and
// reports whether there was one.
func (r resolver) rewrite(m protoreflect.Message, depth int, f func(*anypb.Any) error) (changed bool, err error) {
	if depth > maxDepth {
		return false, fmt.Errorf("nested deeper than %d", maxDepth)
	}
	if a, ok := m.Interface().(*anypb.Any); ok {
		return r.rewriteAny(a, depth, f)
	}
	eachMessage(m, func(_ string, sub protoreflect.Message) bool {
		var c bool
		c, err = r.rewrite(sub, depth+1, f)
		changed = changed || c
		return err == nil
	})
	return changed, err
}

func (r resolver) rewriteAny(a *anypb.Any, depth int, f func(*anypb.Any) error) (bool, error) {
	if a.TypeUrl == "" {
		return false, nil
	}
	mt, ok := r.known(a.TypeUrl)
	if !ok {
		return true, f(a)
	}
	inner := mt.New()
	if err := proto.Unmarshal(a.Value, inner.Interface()); err != nil {
		return false, err
	}
	changed, err := r.rewrite(inner, depth+1, f)
	if err != nil || !changed {
		return false, err
	}
	a.Value, err = marshal(inner)
	return true, err
}

// render returns stored bytes as JSON.
func (d *Decoder) render(typeURL string, body []byte) ([]byte, error) {
	a := &anypb.Any{TypeUrl: typeURL, Value: body}
	if _, known := d.types.known(typeURL); !known {
		return json.Marshal(map[string]any{keyType: typeURL, keyValue: body})
	}
	if err := d.types.wrap(a.ProtoReflect()); err != nil {
		return nil, err
	}
	raw, err := protojson.MarshalOptions{UseProtoNames: true, Resolver: d.types}.Marshal(a)
	if err != nil {
		return nil, err
	}
	// protojson puts spaces at random; a round trip makes the bytes stable.
	var compact json.RawMessage
	if err := json.Unmarshal(raw, &compact); err != nil {
		return nil, err
	}
	return json.Marshal(compact)
}

// eachMessage calls f with the messages directly below m and their paths, and
// stops when it returns false.
func eachMessage(m protoreflect.Message, f func(path string, sub protoreflect.Message) bool) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := fd.TextName()
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() == nil {
				return true
			}
			ok := true
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				ok = f(name+"["+quote(k.String())+"]", v.Message())
				return ok
			})
			return ok
		case fd.Message() == nil:
			return true
		case fd.IsList():
			for i := range v.List().Len() {
				if !f(indexed(name, i), v.List().Get(i).Message()) {
					return false
				}
			}
			return true
		}
		return f(name, v.Message())
	})
}
