package xds

import (
	"bytes"
	"errors"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

const sds = "/envoy.service.secret.v3.SecretDiscoveryService/"

// Open implements Opener with a key that hides nothing.
func (f *fixture) Open(tenant, name, keyID string, sealed []byte) ([]byte, error) {
	plain, ok := bytes.CutPrefix(sealed, []byte(tenant+"/"+name+"/"))
	if !ok || keyID != "k1" {
		return nil, errors.New("not mine")
	}
	return bytes.Clone(plain), nil
}

func (f *fixture) secret(name, material string) { f.secretUnder("k1", name, material) }

func (f *fixture) secretUnder(keyID, name, material string) {
	f.t.Helper()
	plain := marshal(f.t, &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_GenericSecret{GenericSecret: &tlsv3.GenericSecret{
		Secret: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: material}},
	}}})
	f.do(&fsmpb.Command{Op: &fsmpb.Command_PutSecret{PutSecret: &fsmpb.PutSecret{
		Tenant: "default", Name: name, KeyId: keyID, Sealed: append([]byte("default/"+name+"/"), plain...),
		Hash: fsm.ResourceHash(plain, nil, 0),
	}}})
}

func (f *fixture) deleteSecret(name string) {
	f.do(&fsmpb.Command{Op: &fsmpb.Command_DeleteSecret{DeleteSecret: &fsmpb.DeleteSecret{Tenant: "default", Name: name}}})
}

// naming is a listener that names secrets.
func naming(t testing.TB, secrets ...string) *fsmpb.Resource {
	r := listener(t, "l", 80)
	for _, s := range secrets {
		r.References = append(r.References, &fsmpb.Reference{Kind: fsmpb.Reference_SECRET, Name: s})
	}
	r.Hash = fsm.ResourceHash(r.Body, secrets, 0)
	return r
}

func material(t *testing.T, r *response, name string) string {
	t.Helper()
	s, ok := r.bodies[name].(*tlsv3.Secret)
	if !ok {
		t.Fatalf("%s is no secret: %v", name, r.bodies[name])
	}
	return s.GetGenericSecret().GetSecret().GetInlineString()
}

func TestSecrets(t *testing.T) {
	for _, method := range []string{adsDelta, adsState, sds + "DeltaSecrets", sds + "StreamSecrets"} {
		t.Run(method, func(t *testing.T) {
			f := newFixture(t)
			f.replace(naming(t, "tls", "later"))
			f.secret("tls", "one")
			f.secret("other", "x") // named by no resource
			c := f.connect(method)
			c.ask(fsm.TypeSecret, "later", "other", "tls")
			first := "secret tls"
			if c.delta {
				first += " -later -other"
			}
			if r := c.want(first); material(t, r, "tls") != "one" {
				t.Fatalf("got %q", material(t, r, "tls"))
			} else {
				c.ack(r, "later", "other", "tls")
			}

			f.secret("tls", "two")
			r := c.want("secret tls")
			if material(t, r, "tls") != "two" {
				t.Fatalf("after the rotation %q", material(t, r, "tls"))
			}
			c.ack(r, "later", "other", "tls")
			f.secret("later", "three")
			c.ack(c.want("secret later"), "later", "other", "tls")

			f.secret("other", "y")
			f.secret("unasked", "z")
			c.quiet()
			// It is named now.
			f.replace(naming(t, "tls", "other"))
			c.ack(c.want("secret other"), "later", "other", "tls")
			c.quiet() // nor is "later" taken away, which no resource names any more

			f.deleteSecret("tls")
			if c.delta {
				c.ack(c.want("secret -tls"))
			}
			c.quiet()
			f.secret("tls", "again")
			c.ack(c.want("secret tls"), "later", "other", "tls")
		})
	}
}

// TestSecretsOfAFleetAreForNoOther: a fleet gets what its revision names.
func TestSecretsOfAFleetAreForNoOther(t *testing.T) {
	f := newFixture(t)
	f.replaceIn("default", "web", naming(t, "tls"))
	f.replaceIn("default", "other", naming(t))
	f.secret("tls", "one")
	mine, other := f.connectAs(adsDelta, node("p", "web", "")), f.connectAs(adsDelta, node("q", "other", ""))
	mine.ask(fsm.TypeSecret, "tls")
	mine.accept("secret tls")
	other.ask(fsm.TypeSecret, "tls")
	other.accept("secret -tls")
	f.secret("tls", "two")
	mine.accept("secret tls")
	other.quiet()
	// All that is named, in the wildcard's notation.
	all := f.connectAs(adsDelta, node("r", "web", ""))
	f.secret("unnamed", "x")
	all.ask(fsm.TypeSecret)
	all.accept("secret tls")
}

// TestUnnamedSecretsAreForNoNewcomer: who comes after a revision that names a
// secret no more does not get it, though others with the same names have it.
func TestUnnamedSecretsAreForNoNewcomer(t *testing.T) {
	f := newFixture(t)
	f.replace(naming(t, "tls"))
	f.secret("tls", "one")
	c := f.connect(adsDelta)
	c.ask(fsm.TypeSecret, "tls")
	c.accept("secret tls")
	f.replace(naming(t))
	late := f.connectAs(adsDelta, node("p2", "web", ""))
	late.ask(fsm.TypeSecret, "tls")
	late.quiet()
	f.secret("tls", "two")
	c.quiet()
	f.replace(naming(t, "tls"))
	for _, c := range []*client{c, late} {
		if r := c.accept("secret tls"); material(t, r, "tls") != "two" {
			t.Errorf("got %q", material(t, r, "tls"))
		}
	}
}

// TestSecretsThatCannotBeOpened: nothing is said of them, least of all that
// they are gone.
func TestSecretsThatCannotBeOpened(t *testing.T) {
	f := newFixture(t)
	f.replace(naming(t, "a", "b"))
	f.secret("a", "one")
	f.secretUnder("k2", "b", "two")
	c := f.connect(adsDelta)
	c.ask(fsm.TypeSecret, "a", "b")
	c.accept("secret a")
	unopened := func(want float64) {
		t.Helper()
		if got := f.metric("ecp_xds_secrets_unopened"); got != want || f.server.ShutSecrets() != int(want) {
			t.Errorf("%v secrets are said to be unopened, want %v", got, want)
		}
	}
	unopened(1)
	f.secretUnder("k2", "a", "three")
	c.quiet()
	unopened(2)
	f.secret("a", "four")
	c.accept("secret a")
	unopened(1)
	f.deleteSecret("b")
	c.accept("secret -b")
	unopened(0)
}

func TestSecretsSurviveAReconnect(t *testing.T) {
	f := newFixture(t)
	f.replace(naming(t, "tls"))
	f.secret("tls", "one")
	c := f.connect(adsState)
	c.ask(fsm.TypeSecret, "tls")
	r := c.accept("secret tls")
	eventually(t, "the ACK", func() bool { return f.metric("ecp_xds_acks_total", "secret") == 1 })
	c.close()
	again := f.connect(adsState)
	again.version[fsm.TypeSecret] = r.version
	again.ask(fsm.TypeSecret, "tls")
	again.quiet()
	f.secret("tls", "two")
	again.accept("secret tls")
}

// TestSecretsInClearLiveInFramesOnly: the contents of the state hold none, and
// frames go when they are replaced.
func TestSecretsInClearLiveInFramesOnly(t *testing.T) {
	f := newFixture(t)
	f.replace(naming(t, "tls"))
	f.secret("tls", "one")
	c := f.connect(adsDelta)
	c.ask(fsm.TypeSecret, "tls")
	c.accept("secret tls")
	var old *content
	f.server.hub.mu.Lock()
	for _, g := range f.server.hub.groups {
		old = g.content.Load()
	}
	f.server.hub.mu.Unlock()
	for _, i := range old.items {
		if i.body != nil {
			t.Error("a content holds a secret in clear")
		}
	}
	f.secret("tls", "two")
	c.accept("secret tls")
	eventually(t, "the frames of the old content are gone", func() bool {
		old.mu.Lock()
		defer old.mu.Unlock()
		return old.retired && old.frames == nil
	})
}
