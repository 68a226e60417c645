package resource

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// DecodeSecret reads the Secret of a name, with or without its @type, and
// returns its bytes, which hold the material in clear, and what may be known
// of it. An absent name is set. Mistakes never repeat what is inside.
func (d *Decoder) DecodeSecret(name string, raw []byte) (plain []byte, info *fsmpb.SecretInfo, errs []wire.FieldError) {
	ps := &problems{material: true}
	value, ok := d.parseAs(fsm.TypeSecret, raw, ps)
	if !ok {
		return nil, nil, ps.all()
	}
	if own, ok := value["name"].(string); ok && own != "" && own != name {
		ps.add("name", wire.CodeInvalidName, "it must be the name in the path")
	}
	value["name"] = name
	m := d.message("", fsm.TypeSecret, value, ps)
	if len(ps.list) > 0 || m == nil {
		return nil, nil, ps.all()
	}
	secret, _ := m.Interface().(*tlsv3.Secret)
	info = ps.inspect(secret)
	if len(ps.list) > 0 {
		return nil, nil, ps.all()
	}
	plain, err := marshal(m)
	if err != nil {
		ps.add("", wire.CodeInvalidResource, "it cannot be encoded")
		return nil, nil, ps.all()
	}
	return plain, info, nil
}

// inspect checks what Envoy's rules do not: that there is something, that
// certificates can be read and that a key belongs to its certificate.
func (ps *problems) inspect(s *tlsv3.Secret) *fsmpb.SecretInfo {
	switch {
	case s.GetTlsCertificate() != nil:
		const at = "tls_certificate"
		c := s.GetTlsCertificate()
		info := &fsmpb.SecretInfo{Kind: at, Certificates: ps.certificates(at+".certificate_chain", inline(c.GetCertificateChain()))}
		ps.keyPair(at+".private_key", c)
		return info
	case s.GetValidationContext() != nil:
		const at = "validation_context"
		ca := inline(s.GetValidationContext().GetTrustedCa())
		return &fsmpb.SecretInfo{Kind: at, Certificates: ps.certificates(at+".trusted_ca", ca)}
	case s.GetSessionTicketKeys() != nil:
		return &fsmpb.SecretInfo{Kind: "session_ticket_keys"}
	case s.GetGenericSecret() != nil:
		return &fsmpb.SecretInfo{Kind: "generic_secret"}
	}
	ps.add("", wire.CodeInvalidResource,
		"it holds nothing; one of tls_certificate, validation_context, session_ticket_keys, generic_secret is needed")
	return nil
}

// inline returns what a data source holds itself, nil when it is elsewhere.
func inline(s *corev3.DataSource) []byte {
	if text := s.GetInlineString(); text != "" {
		return []byte(text)
	}
	return s.GetInlineBytes()
}

// maxCertificates bounds what is told of a bundle.
const maxCertificates = 50

// certificates describes those of a PEM text.
func (ps *problems) certificates(path string, text []byte) []*fsmpb.Certificate {
	var out []*fsmpb.Certificate
	for rest, n := text, 1; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			ps.add(path, wire.CodeInvalidResource, "certificate %d cannot be read", n)
			return nil
		}
		if len(out) < maxCertificates {
			out = append(out, describe(c))
		}
	}
	if len(text) > 0 && len(out) == 0 {
		ps.add(path, wire.CodeInvalidResource, "there is no certificate in PEM")
	}
	return out
}

func describe(c *x509.Certificate) *fsmpb.Certificate {
	sum := sha256.Sum256(c.Raw)
	return &fsmpb.Certificate{
		Subject: validText(c.Subject.String()), Issuer: validText(c.Issuer.String()), DnsNames: validTexts(c.DNSNames),
		Serial: fmt.Sprintf("%x", c.SerialNumber), Fingerprint: hex.EncodeToString(sum[:]),
		NotBefore: c.NotBefore.UnixNano(), NotAfter: c.NotAfter.UnixNano(),
	}
}

func validText(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func validTexts(all []string) []string {
	out := make([]string, len(all))
	for i, s := range all {
		out[i] = validText(s)
	}
	return out
}

// keyPair checks that a private key that is there in clear belongs to the
// certificate.
func (ps *problems) keyPair(path string, c *tlsv3.TlsCertificate) {
	chain, private := inline(c.GetCertificateChain()), inline(c.GetPrivateKey())
	if len(chain) == 0 || len(private) == 0 || c.GetPassword() != nil || len(ps.list) > 0 {
		return
	}
	if _, err := tls.X509KeyPair(chain, private); err != nil {
		ps.add(path, wire.CodeInvalidResource, "it cannot be read, or does not belong to the certificate")
	}
}

// discreet takes out of a mistake in material what may have been part of it:
// keys that are no field's names.
func discreet(e wire.FieldError) wire.FieldError {
	const longestField = 64
	if at, _, odd := strings.Cut(e.Path, `["`); odd {
		e.Path = at + "[...]"
	}
	parts := strings.Split(e.Path, ".")
	for i, p := range parts {
		if len(p) > longestField {
			parts[i] = "[...]"
		}
	}
	e.Path = strings.Join(parts, ".")
	return e
}
