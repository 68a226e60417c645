package resource_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"

	"github.com/org/envoy-control-plane/api/resource"
	"github.com/org/envoy-control-plane/api/wire"
)

// certificate makes a self-signed one and its key, in PEM.
func certificate(t testing.TB, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0xbeef), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Unix(1e9, 0), NotAfter: time.Unix(4e9, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

type object = map[string]any

func text(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func source(s string) object { return object{"inline_string": s} }

func TestDecodeSecret(t *testing.T) {
	cert, key := certificate(t, "edge.example.com")
	raw := text(t, object{
		"@type":           "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
		"tls_certificate": object{"certificate_chain": source(cert), "private_key": source(key)},
	})
	plain, info, errs := resource.New().DecodeSecret("tls", raw)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	s := &tlsv3.Secret{}
	if err := proto.Unmarshal(plain, s); err != nil || s.Name != "tls" || s.GetTlsCertificate().GetPrivateKey().GetInlineString() != key {
		t.Fatalf("%v: %v", err, s)
	}
	if info.Kind != "tls_certificate" || len(info.Certificates) != 1 {
		t.Fatalf("info %v", info)
	}
	c := info.Certificates[0]
	if c.Subject != "CN=edge.example.com" || c.Serial != "beef" || len(c.Fingerprint) != 64 || c.DnsNames[0] != "edge.example.com" ||
		c.NotAfter != time.Unix(4e9, 0).UnixNano() {
		t.Errorf("certificate %v", c)
	}
	if strings.Contains(info.String(), "PRIVATE") {
		t.Error("the info has the key")
	}

	_, info, errs = resource.New().DecodeSecret("ca", text(t, object{"validation_context": object{"trusted_ca": source(cert + cert)}}))
	if len(errs) > 0 || info.Kind != "validation_context" || len(info.Certificates) != 2 {
		t.Errorf("%v %v", info, errs)
	}
	for kind, body := range map[string]string{
		"session_ticket_keys": `{"session_ticket_keys": {"keys": [{"inline_bytes": "` + strings.Repeat("AAAA", 26) + `AAA="}]}}`,
		"generic_secret":      `{"generic_secret": {"secret": {"inline_string": "x"}}}`,
	} {
		if _, info, errs := resource.New().DecodeSecret("s", []byte(body)); len(errs) > 0 || info.Kind != kind {
			t.Errorf("%s: %v %v", kind, info, errs)
		}
	}
}

// TestBadSecrets: every mistake has its place, and none repeats the material.
func TestBadSecrets(t *testing.T) {
	cert, key := certificate(t, "a")
	_, otherKey := certificate(t, "b")
	pair := func(cert, key any) object {
		return object{"tls_certificate": object{"certificate_chain": cert, "private_key": key}}
	}
	const hush = "MATERIALmaterialMATERIAL"
	for name, c := range map[string]struct {
		body any
		path string
		code wire.Code
	}{
		"another name":       {object{"name": "other", "generic_secret": object{}}, "name", wire.CodeInvalidName},
		"nothing":            {object{}, "", wire.CodeInvalidResource},
		"another type":       {object{"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster"}, "@type", wire.CodeUnknownType},
		"a key of another":   {pair(source(cert), source(otherKey)), "tls_certificate.private_key", wire.CodeInvalidResource},
		"a key of no shape":  {pair(source(cert), source(hush)), "tls_certificate.private_key", wire.CodeInvalidResource},
		"no certificate":     {pair(source(hush), source(key)), "tls_certificate.certificate_chain", wire.CodeInvalidResource},
		"no such field":      {object{"tls_certificat": object{}}, "tls_certificat", wire.CodeUnknownField},
		"material as a key":  {object{hush + " " + hush: 1}, "[...]", wire.CodeUnknownField},
		"material elsewhere": {pair(source(cert), object{"inline_bytes": hush + "!"}), "tls_certificate.private_key.inline_bytes", wire.CodeInvalidResource},
		"a wrong kind":       {object{"generic_secret": object{"secret": object{"inline_string": object{"x": hush}}}}, "generic_secret.secret.inline_string", wire.CodeInvalidResource},
	} {
		_, _, errs := resource.New().DecodeSecret("mine", text(t, c.body))
		if len(errs) == 0 || errs[0].Path != c.path || errs[0].Code != c.code {
			t.Errorf("%s: %+v", name, errs)
		}
		for _, e := range errs {
			if strings.Contains(e.Path+e.Detail, hush) || strings.Contains(e.Detail, "PRIVATE") {
				t.Errorf("%s: it repeats the material: %+v", name, e)
			}
		}
	}
}

// FuzzDecodeSecret: no input does harm, a refusal has reasons, and what is
// taken is a Secret of the name.
func FuzzDecodeSecret(f *testing.F) {
	cert, key := certificate(f, "a")
	f.Add(text(f, object{"tls_certificate": object{"certificate_chain": source(cert), "private_key": source(key)}}))
	f.Add([]byte(`{"name": "s", "validation_context": {"trusted_ca": {"inline_string": "-----BEGIN CERTIFICATE-----"}}}`))
	f.Add([]byte(`{"generic_secret": {"secret": {"filename": "/x"}}}`))
	d := resource.New()
	f.Fuzz(func(t *testing.T, raw []byte) {
		plain, info, problems := d.DecodeSecret("s", raw)
		if (info == nil) != (len(problems) > 0) {
			t.Fatalf("%v with %v", info, problems)
		}
		if info == nil {
			return
		}
		s := &tlsv3.Secret{}
		if err := proto.Unmarshal(plain, s); err != nil || s.Name != "s" {
			t.Fatalf("%v: %v", s, err)
		}
	})
}
