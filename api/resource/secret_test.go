package resource_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/org/envoy-control-plane/fsm"
)

// TestSecretsInClear: none gets in, wherever it is; what names one does.
func TestSecretsInClear(t *testing.T) {
	tls := func(context string) string {
		return cluster(fmt.Sprintf(`, "transport_socket": {"name": "tls", "typed_config": {
			"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", "common_tls_context": %s}}`, context))
	}
	filter := func(name, fields string) string {
		return extension(fmt.Sprintf(`{"@type": "type.googleapis.com/envoy.extensions.filters.%s", %s}`, name, fields))
	}
	const pem = `-----BEGIN EC PRIVATE KEY-----`
	const inTLS = "inline_secret u[0].transport_socket.typed_config.common_tls_context."
	for name, tc := range map[string]struct {
		raw  string
		want []string // nil: it is taken
	}{
		"bytes": {tls(`{"tls_certificates": [{"private_key": {"inline_bytes": "eA=="}}, {"pkcs12": {"inline_string": "x"}}]}`), []string{
			inTLS + "tls_certificates[0].private_key", inTLS + "tls_certificates[1].pkcs12",
		}},
		"named": {tls(`{"tls_certificates": [{"certificate_chain": {"inline_string": "public"}, "private_key": {"filename": "/k"}, "password": {"environment_variable": "P"}}]}`), nil},
		"of a provider": {
			tls(`{"tls_certificates": [{"private_key_provider": {"provider_name": "cryptomb", "typed_config": {
				"@type": "type.googleapis.com/envoy.extensions.private_key_providers.cryptomb.v3alpha.CryptoMbPrivateKeyMethodConfig",
				"poll_delay": "0.02s", "private_key": {"inline_string": "x"}}}}]}`),
			[]string{inTLS + "tls_certificates[0].private_key_provider.typed_config.private_key"},
		},
		"of a provider, named": {tls(`{"tls_certificates": [{"private_key_provider": {"provider_name": "cryptomb", "typed_config": {
				"@type": "type.googleapis.com/envoy.extensions.private_key_providers.cryptomb.v3alpha.CryptoMbPrivateKeyMethodConfig",
				"poll_delay": "0.02s", "private_key": {"filename": "x"}}}}]}`), nil},
		"where none belongs, and a walk's mistake": {
			tls(`{"nonsense": 1, "validation_context": {"trusted_ca": {"inline_string": "` + pem + `"}}}`),
			[]string{inTLS + "validation_context.trusted_ca", "unknown_field u[0].transport_socket.typed_config.common_tls_context.nonsense"},
		},
		"in a TypedStruct": {
			extension(`{"@type": "type.googleapis.com/xds.type.v3.TypedStruct", "type_url": "a/b", "value": {"k": [{"x y": "` + pem + `"}]}}`),
			[]string{`inline_secret u[0].typed_config.value.k[0]["x y"]`},
		},
		"in unknown bytes": {
			extension(`{"@type": "acme/b.C", "value": "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0t"}`),
			[]string{"inline_secret u[0].typed_config.value"},
		},
		"in runtime": {
			fmt.Sprintf(`{"@type": %q, "name": "r", "layer": {"a": %q}}`, fsm.TypeRuntime, pem),
			[]string{"inline_secret u[0].layer.a"},
		},
		"API keys": {
			filter("http.api_key_auth.v3.ApiKeyAuth", `"key_sources": [{"header": "k"}], "credentials": [{"key": "s3cret", "client": "c"}]`),
			[]string{"inline_secret u[0].typed_config.credentials[0]"},
		},
		"users": {
			filter("http.basic_auth.v3.BasicAuth", `"users": {"inline_string": "u:p"}`),
			[]string{"inline_secret u[0].typed_config.users"},
		},
		"keys of a cloud": {
			filter("http.aws_lambda.v3.Config", `"arn": "a", "credentials": {"access_key_id": "i", "secret_access_key": "k"}`),
			[]string{"inline_secret u[0].typed_config.credentials.secret_access_key"},
		},
		"context of ext_authz": {filter("http.ext_authz.v3.ExtAuthzPerRoute", `"check_settings": {"context_extensions": {"route": "a"}}`), nil},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.want == nil {
				decode(t, tc.raw)
			} else if got := mistakes(t, tc.raw); !slices.Equal(got, tc.want) {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}
