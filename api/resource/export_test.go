package resource

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/org/envoy-control-plane/api/wire"
)

// DecodeEndpointsAnyhow decodes as if nothing were plain.
func (d *Decoder) DecodeEndpointsAnyhow(service string, raw []byte) (body, hash []byte, errs []wire.FieldError) {
	return d.decodeEndpoints(service, raw)
}

// PlainEndpoints reports whether endpoints are taken the short way.
func PlainEndpoints(service string, raw []byte) bool { return plainEndpoints(service, raw) != nil }

// Sensitive lists what must not be in plain endpoints, in and below a message:
// fields that are marked, data sources, and Any. Keys that make them unusual are
// passed over.
func Sensitive(md protoreflect.MessageDescriptor) (found []protoreflect.FullName) {
	seen := map[protoreflect.FullName]bool{}
	var visit func(protoreflect.MessageDescriptor)
	visit = func(md protoreflect.MessageDescriptor) {
		if seen[md.FullName()] {
			return
		}
		seen[md.FullName()] = true
		if isDataSource(md) || md.FullName() == nameAny {
			found = append(found, md.FullName())
		}
		for i := range md.Fields().Len() {
			f := md.Fields().Get(i)
			if slices.ContainsFunc(unusual[:], func(text string) bool {
				return strings.Contains(f.JSONName(), text) && strings.Contains(f.TextName(), text)
			}) {
				continue
			}
			if sensitive(f) {
				found = append(found, f.FullName())
			}
			if f.Message() != nil {
				visit(f.Message())
			}
		}
	}
	visit(md)
	return found
}
