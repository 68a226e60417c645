package api_test

import (
	"bytes"
	"crypto/sha256"
	"net/http"
	"strings"
	"testing"

	"github.com/org/envoy-control-plane/api"
	"github.com/org/envoy-control-plane/api/wire"
)

// openSealer is a key that hides as little as a test needs hidden.
type openSealer struct{}

func (openSealer) Seal(tenant, name string, plain []byte) ([]byte, string) {
	sum := sha256.Sum256(append([]byte(tenant+"/"+name+"/"), plain...))
	return sum[:], "k1"
}

func (openSealer) Digest(parts ...[]byte) []byte {
	sum := sha256.Sum256(bytes.Join(parts, []byte("|")))
	return sum[:16]
}

func withSealer(_ *rig, _ *api.Config, d *api.Deps) { d.Secrets = openSealer{} }

const (
	secretsPath = "/api/v1/tenants/default/secrets"
	password    = `{"generic_secret":{"secret":{"inline_string":"hunter2"}}}`
)

func TestSecrets(t *testing.T) {
	r := newRig(t, withEnvoy, withSealer)
	path := secretsPath + "/edge%2Ftls%20%C3%A4"
	made := decoded[wire.SecretWritten](r.put(path, password), 201)
	if made.Name != "edge/tls ä" || made.Unchanged {
		t.Errorf("created: %+v", made)
	}
	if same := decoded[wire.SecretWritten](r.put(path, password), 200); !same.Unchanged {
		t.Errorf("same: %+v", same)
	}
	got := decoded[wire.Secret](r.get(path), 200)
	if got.Name != "edge/tls ä" || got.Kind != "generic_secret" || got.KeyID != "k1" || got.By != "anonymous" || got.Version == "" {
		t.Errorf("secret: %+v", got)
	}
	decoded[wire.SecretWritten](r.put(path, "generic_secret: {secret: {inline_string: other}}\n", "Content-Type", "application/yaml"), 200)
	if now := decoded[wire.Secret](r.get(path), 200); now.Version == got.Version {
		t.Error("other material, the same version")
	}
	if list := decoded[wire.List[wire.Secret]](r.get(secretsPath), 200); len(list.Items) != 1 {
		t.Errorf("list: %+v", list)
	}
	r.put(path, ``).refused(wire.CodeInvalid, "")
	r.put(path, `{"name":"other"}`).refused(wire.CodeInvalidName)
	r.get(secretsPath + "/none").refused(wire.CodeSecretNotFound)
	r.delete(secretsPath + "/none").refused(wire.CodeSecretNotFound)
	r.delete(path).is(http.StatusOK)
	r.get(path).refused(wire.CodeSecretNotFound)
	r.get("/api/v1/tenants/none/secrets").refused(wire.CodeTenantNotFound)
}

func TestSecretsWithoutAKey(t *testing.T) {
	r := newRig(t, withEnvoy)
	r.get(secretsPath).refused(wire.CodeSecretsDisabled)
	r.get(secretsPath + "/x").refused(wire.CodeSecretsDisabled)
	r.put(secretsPath+"/x", password).refused(wire.CodeSecretsDisabled)
	r.delete(secretsPath + "/x").refused(wire.CodeSecretsDisabled)
}

// TestSecretsLeaveNoTrace: what goes into the log holds neither the material
// nor a digest of the body that anybody could compute.
func TestSecretsLeaveNoTrace(t *testing.T) {
	r := newRig(t, withEnvoy, withSealer)
	first := r.put(secretsPath+"/x", password, wire.HeaderIdempotencyKey, "k").is(201)
	if again := r.put(secretsPath+"/x", password, wire.HeaderIdempotencyKey, "k").is(201); !bytes.Equal(first.raw, again.raw) {
		t.Errorf("a replay answers %s, not %s", again.raw, first.raw)
	}
	r.put(secretsPath+"/x", strings.Replace(password, "hunter2", "hunter3", 1), wire.HeaderIdempotencyKey, "k").
		refused(wire.CodeIdempotencyMismatch)
	var snapshot bytes.Buffer
	if err := r.ledger.state().WriteSnapshot(&snapshot); err != nil {
		t.Fatal(err)
	}
	plain := newRig(t, withEnvoy, func(_ *rig, _ *api.Config, d *api.Deps) { d.Secrets = otherSealer{} })
	for _, text := range []string{"hunter2", "hunter3"} {
		if bytes.Contains(snapshot.Bytes(), []byte(text)) {
			t.Errorf("%s is in the state", text)
		}
	}
	r.put(secretsPath+"/x", password, wire.HeaderIdempotencyKey, "k2").is(200)
	plain.put(secretsPath+"/x", password, wire.HeaderIdempotencyKey, "k2").is(201)
	if bytes.Equal(r.ledger.lastRequestHash(), plain.ledger.lastRequestHash()) {
		t.Error("the request's hash does not depend on the key")
	}
}

// otherSealer has another key.
type otherSealer struct{ openSealer }

func (s otherSealer) Digest(parts ...[]byte) []byte {
	return s.openSealer.Digest(append(parts, []byte("other"))...)
}
