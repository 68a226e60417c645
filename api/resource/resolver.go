package resource

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/org/envoy-control-plane/fsm"
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

// resource returns the full URL of a resource's type, however its prefix was
// written: checks and streams compare URLs.
func (r resolver) resource(url string) (string, error) {
	mt, ok := r.known(url)
	switch {
	case !ok:
		return "", fmt.Errorf("this build knows no type %q", cut(url))
	case wellKnown(mt.Descriptor()):
		return "", fmt.Errorf("%s is no type of a resource", mt.Descriptor().FullName())
	}
	return fsm.TypePrefix + string(mt.Descriptor().FullName()), nil
}

// typeURLFits reports whether Envoy takes a type URL: a prefix, a slash and a
// name.
func typeURLFits(url string) bool {
	slash := strings.LastIndexByte(url, '/')
	return slash >= 0 && len(url) <= maxNameBytes && protoreflect.FullName(url[slash+1:]).IsValid()
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
func wrap(a *anypb.Any) error {
	raw, err := proto.Marshal(wrapperspb.Bytes(a.Value))
	a.Value = raw
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
	eachMessage(m, func(_ func() string, sub protoreflect.Message) {
		if err == nil {
			var c bool
			c, err = r.rewrite(sub, depth+1, f)
			changed = changed || c
		}
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
func (r resolver) render(typeURL string, body []byte) ([]byte, error) {
	mt, known := r.known(typeURL)
	if !known {
		return json.Marshal(map[string]any{keyType: typeURL, keyValue: body})
	}
	m := mt.New()
	if err := proto.Unmarshal(body, m.Interface()); err != nil {
		return nil, err
	}
	if bytes.IndexByte(body, '/') >= 0 { // as every type URL has one: there may be an Any
		if _, err := r.rewrite(m, 1, wrap); err != nil {
			return nil, err
		}
	}
	raw, err := protojson.MarshalOptions{UseProtoNames: true, Resolver: r}.Marshal(m.Interface())
	if err != nil {
		return nil, err
	}
	return typed(typeURL, raw)
}

// typed puts the type before the fields of an object.
func typed(typeURL string, object []byte) ([]byte, error) {
	quoted, err := json.Marshal(typeURL)
	if err != nil {
		return nil, err
	}
	fields := bytes.TrimLeft(bytes.TrimSpace(object)[1:], " ")
	out := make([]byte, 0, len(object)+len(quoted)+len(`{"@type":,`))
	out = fmt.Appendf(out, `{%q:%s`, keyType, quoted)
	if fields[0] != '}' {
		out = append(out, ',')
	}
	return append(out, fields...), nil
}
