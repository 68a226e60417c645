package api

import (
	"encoding/json"

	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// sealing lets a handler be called only where there is a key.
func sealing(f func(s *Server, c *call) (*answer, error)) handler {
	return func(s *Server, c *call) (*answer, error) {
		if s.deps.Secrets == nil {
			return nil, refuse(wire.CodeSecretsDisabled, "this node has no key for secrets, see --secrets-key-file")
		}
		return f(s, c)
	}
}

func secretJSON(x *fsmpb.Secret) wire.Secret {
	out := wire.Secret{
		Name: x.GetName(), Tenant: x.GetTenant(), Kind: x.GetInfo().GetKind(), Version: x.GetVersion(),
		Index: x.GetIndex(), At: instantJSON(x.GetAt()), By: x.GetBy(), KeyID: x.GetKeyId(),
		Certificates: []wire.Certificate{},
	}
	for _, c := range x.GetInfo().GetCertificates() {
		out.Certificates = append(out.Certificates, wire.Certificate{
			Subject: c.GetSubject(), Issuer: c.GetIssuer(), DNSNames: c.GetDnsNames(), Serial: c.GetSerial(),
			Fingerprint: c.GetFingerprint(), NotBefore: instantJSON(c.GetNotBefore()), NotAfter: instantJSON(c.GetNotAfter()),
		})
	}
	return out
}

func listSecrets(_ *Server, c *call, st *fsm.State) (any, error) {
	if _, err := tenantOf(c, st); err != nil {
		return nil, err
	}
	p, err := c.page("secrets")
	if err != nil {
		return nil, err
	}
	return paged(p, st.SecretsOf(c.param("tenant"), p.after), (*fsmpb.Secret).GetName, nil, secretJSON), nil
}

func getSecret(_ *Server, c *call, st *fsm.State) (any, error) {
	if _, err := tenantOf(c, st); err != nil {
		return nil, err
	}
	row, ok := st.Secret(c.param("tenant"), c.param("secret"))
	if !ok {
		return nil, refuse(wire.CodeSecretNotFound, "tenant %q has no secret %q", c.param("tenant"), c.param("secret"))
	}
	return secretJSON(row), nil
}

// putSecret encrypts what came before anything else sees it. The body counts
// for the Idempotency-Key by its keyed digest: a plain one in the state would
// let a weak password be guessed.
func (s *Server) putSecret(c *call) (*answer, error) {
	raw, err := c.body()
	if err != nil {
		return nil, err
	}
	d := &strict{}
	if raw == nil {
		d.fail(wire.CodeInvalid, "", "a Secret is needed")
		return nil, d.err()
	}
	tenant, name := c.param("tenant"), c.param("secret")
	plain, info, mistakes := s.deps.Resources.DecodeSecret(name, raw)
	d.errs = mistakes
	if err := d.err(); err != nil {
		return nil, err
	}
	command := &fsmpb.PutSecret{
		Tenant: tenant, Name: name, Info: info, Hash: s.deps.Secrets.Digest([]byte(tenant), []byte(name), plain),
	}
	command.Sealed, command.KeyId = s.deps.Secrets.Seal(tenant, name, plain)
	clear(plain)
	sum, err := s.keyedSum(raw)
	if err != nil {
		return nil, err
	}
	r, err := s.propose(c, sum, &fsmpb.Command{Op: &fsmpb.Command_PutSecret{PutSecret: command}})
	if err != nil {
		return nil, err
	}
	return &answer{status: statusOf(r), body: wire.SecretWritten{
		Name: name, Tenant: tenant, Index: r.GetIndex(), Unchanged: r.GetUnchanged(), Warnings: fieldErrors(r.GetWarnings()),
	}}, nil
}

// keyedSum stands for a body in the hash of a request, as JSON.
func (s *Server) keyedSum(raw []byte) ([]byte, error) {
	body, err := canonical(raw)
	if err != nil {
		return nil, err
	}
	return json.Marshal(s.deps.Secrets.Digest(body))
}

func (s *Server) deleteSecret(c *call) (*answer, error) {
	return s.delete(c, &fsmpb.Command{Op: &fsmpb.Command_DeleteSecret{
		DeleteSecret: &fsmpb.DeleteSecret{Tenant: c.param("tenant"), Name: c.param("secret")},
	}})
}
