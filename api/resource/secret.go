package resource

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"github.com/cncf/xds/go/udpa/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/org/envoy-control-plane/api/wire"
)

const privateKey = "PRIVATE KEY-----"

// secrets refuses secret material in the message itself: a field marked
// sensitive that holds something, or a private key in any text.
//
// Maps of strings that are marked (the context that a route gives to
// ext_authz) pass: they cannot come from elsewhere, and names of routes are
// what they are used for.
func (c *checker) secrets(n node) {
	switch m := n.m.Interface().(type) {
	case *anypb.Any: // of unknown type
		if bytes.Contains(m.GetValue(), []byte(privateKey)) {
			c.refuse(join(n.path, keyValue))
		}
		return
	case *structpb.Struct:
		c.free(n.path, structpb.NewStructValue(m))
		return
	case *structpb.Value:
		c.free(n.path, m)
		return
	case *structpb.ListValue:
		c.free(n.path, structpb.NewListValue(m))
		return
	}
	if isDataSource(n.m.Descriptor()) { // reported at its own path, below or by its owner
		if heldBy(n.m, isPrivateKey) {
			c.refuse(n.path)
		}
		return
	}
	n.m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		c.field(join(n.path, f.TextName()), f, v)
		return true
	})
}

func (c *checker) field(path string, f protoreflect.FieldDescriptor, v protoreflect.Value) {
	marked := sensitive(f)
	switch {
	case f.IsMap():
		if !marked || f.MapValue().Message() == nil {
			return
		}
		for _, k := range mapKeys(v.Map()) {
			c.sensitive(keyed(path, k.String()), v.Map().Get(k).Message())
		}
	case f.Message() == nil:
		if marked || holds(f, v, isPrivateKey) {
			c.refuse(path)
		}
	case marked && f.IsList():
		for i := range v.List().Len() {
			c.sensitive(indexed(path, i), v.List().Get(i).Message())
		}
	case marked:
		c.sensitive(path, v.Message())
	}
}

// sensitive refuses a message that is marked and holds the secret itself. A
// private key in a data source is reported where that is visited.
func (c *checker) sensitive(path string, m protoreflect.Message) {
	if isDataSource(m.Descriptor()) && heldBy(m, isPrivateKey) {
		return
	}
	if heldBy(m, func(s string) bool { return s != "" }) {
		c.refuse(path)
	}
}

func (c *checker) refuse(path string) {
	c.ps.add(path, wire.CodeInlineSecret, "secrets are not part of a configuration; name a file, an environment variable or an SDS secret")
}

// free looks for private keys in a value of any shape.
func (c *checker) free(path string, v *structpb.Value) {
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		if isPrivateKey(k.StringValue) {
			c.refuse(path)
		}
	case *structpb.Value_StructValue:
		for _, key := range structKeys(k.StructValue) {
			c.free(member(path, key), k.StructValue.GetFields()[key])
		}
	case *structpb.Value_ListValue:
		for i, e := range k.ListValue.GetValues() {
			c.free(indexed(path, i), e)
		}
	}
}

// pointers are the fields of a sensitive message that say where a secret is,
// or whose it is.
var pointers = map[protoreflect.Name]bool{"filename": true, "environment_variable": true, "client": true}

// heldBy reports whether a text of a message, itself and not below it, is as
// wanted. The content of an Any is looked at where it is visited.
func heldBy(m protoreflect.Message, want func(string) bool) bool {
	if m.Descriptor().FullName() == nameAny {
		return false
	}
	held := false
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		held = held || !pointers[f.Name()] && holds(f, v, want)
		return !held
	})
	return held
}

func holds(f protoreflect.FieldDescriptor, v protoreflect.Value, want func(string) bool) bool {
	var text func(v protoreflect.Value) string
	switch f.Kind() {
	case protoreflect.StringKind:
		text = protoreflect.Value.String
	case protoreflect.BytesKind:
		text = func(v protoreflect.Value) string { return string(v.Bytes()) }
	default:
		return false
	}
	if !f.IsList() {
		return want(text(v))
	}
	for i := range v.List().Len() {
		if want(text(v.List().Get(i))) {
			return true
		}
	}
	return false
}

func isPrivateKey(text string) bool { return strings.Contains(text, privateKey) }

func isDataSource(md protoreflect.MessageDescriptor) bool { return md.Name() == "DataSource" }

// credentials are fields that hold a secret as plainly as those that Envoy
// marks, and are not marked.
var credentials = map[protoreflect.FullName]bool{
	"envoy.config.core.v3.GrpcService.GoogleGrpc.CallCredentials.access_token":                                                 true,
	"envoy.config.core.v3.GrpcService.GoogleGrpc.CallCredentials.google_refresh_token":                                         true,
	"envoy.config.core.v3.GrpcService.GoogleGrpc.CallCredentials.GoogleIAMCredentials.authorization_token":                     true,
	"envoy.config.core.v3.GrpcService.GoogleGrpc.CallCredentials.ServiceAccountJWTAccessCredentials.json_key":                  true,
	"envoy.config.trace.v3.LightstepConfig.access_token":                                                                       true,
	"envoy.extensions.filters.http.aws_lambda.v3.Credentials.secret_access_key":                                                true,
	"envoy.extensions.filters.http.aws_lambda.v3.Credentials.session_token":                                                    true,
	"envoy.extensions.grpc_service.call_credentials.access_token.v3.AccessTokenCredentials.token":                              true,
	"envoy.extensions.grpc_service.call_credentials.google_iam.v3.GoogleIamCredentials.authorization_token":                    true,
	"envoy.extensions.grpc_service.call_credentials.google_refresh_token.v3.GoogleRefreshTokenCredentials.token":               true,
	"envoy.extensions.grpc_service.call_credentials.service_account_jwt_access.v3.ServiceAccountJwtAccessCredentials.json_key": true,
}

func sensitive(f protoreflect.FieldDescriptor) bool {
	is, _ := proto.GetExtension(f.Options(), annotations.E_Sensitive).(bool)
	return is || credentials[f.FullName()]
}

func structKeys(s *structpb.Struct) []string { return slices.Sorted(maps.Keys(s.GetFields())) }
