package fsm_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func TestSecrets(t *testing.T) {
	m := newMachine(t)
	if r := m.ok(putSecret("tls", "a")); !r.Created {
		t.Fatalf("got %v", r)
	}
	first, _ := m.state.Secret("default", "tls")
	if r := m.ok(putSecret("tls", "a")); !r.Unchanged {
		t.Fatalf("got %v", r)
	}
	if r := m.ok(putSecret("tls", "b")); r.Created || r.Unchanged {
		t.Fatalf("got %v", r)
	}
	row, _ := m.state.Secret("default", "tls")
	if row.Version == first.Version || string(row.Sealed) != "sealed b" || row.Info.Kind != "generic_secret" {
		t.Fatalf("row %v", row)
	}
	moved := putSecret("tls", "b") // to another key
	moved.GetPutSecret().KeyId = "k2"
	if r := m.ok(moved); r.Unchanged {
		t.Fatalf("got %v", r)
	}
	for _, broken := range []func(*fsmpb.PutSecret){
		func(c *fsmpb.PutSecret) { c.Name = "" }, func(c *fsmpb.PutSecret) { c.Hash = nil },
		func(c *fsmpb.PutSecret) { c.Sealed = nil }, func(c *fsmpb.PutSecret) { c.KeyId = "" },
	} {
		c := putSecret("tls", "c")
		broken(c.GetPutSecret())
		m.refused(fsm.CodeInvalid, c)
	}
	m.refused(fsm.CodeSecretNotFound, deleteSecret("none"))
	m.ok(deleteSecret("tls"))
	if _, ok := m.state.Secret("default", "tls"); ok {
		t.Fatal("still there")
	}
	elsewhere := putSecret("tls", "a")
	elsewhere.GetPutSecret().Tenant = "none"
	m.refused(fsm.CodeTenantNotFound, elsewhere)
	gone := deleteSecret("tls")
	gone.GetDeleteSecret().Tenant = "none"
	m.refused(fsm.CodeTenantNotFound, gone)
}

func TestSecretsAreInNoEvent(t *testing.T) {
	m := newMachine(t)
	m.ok(putSecret("tls", "material"))
	for ev := range m.state.Events(0) {
		data, err := fsm.EventData(ev)
		if err != nil || bytes.Contains(data, []byte("material")) || strings.Contains(ev.String(), "material") {
			t.Fatalf("%s %v: %v", data, ev, err)
		}
	}
}

func TestCertificatesOutOfDate(t *testing.T) {
	m := newMachine(t)
	c := putSecret("tls", "a")
	c.GetPutSecret().Info = &fsmpb.SecretInfo{Kind: "tls_certificate", Certificates: []*fsmpb.Certificate{
		{Subject: "CN=old", NotAfter: 1}, {Subject: "CN=good", NotAfter: 1 << 62}, {Subject: "CN=new", NotBefore: 1 << 61, NotAfter: 1 << 62},
	}}
	next, results, _ := m.state.Apply(m.state.Index()+1, &fsmpb.Entry{Stamp: 1 << 60, Commands: []*fsmpb.Command{c}})
	m.state = next
	w := results[0].Warnings
	if len(w) != 2 || w[0].Path != "tls_certificate" || !strings.Contains(w[0].Detail, "CN=old) has expired") ||
		!strings.Contains(w[1].Detail, "CN=new) is not valid yet") {
		t.Fatalf("warnings %v", w)
	}
}
