package fsm_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// machine applies commands one entry at a time and keeps the log.
type machine struct {
	t     testing.TB
	state *fsm.State
	log   []*fsmpb.Entry
	// events of the last command.
	events []*fsmpb.Event
	now    int64
	// backups by their checksum.
	backups map[string]*fsm.State
}

func newMachine(t testing.TB) *machine { return founded(t, fsm.SupportedLevel) }

// founded is of a cluster that was founded at a level.
func founded(t testing.TB, level uint32) *machine {
	m := &machine{t: t, state: fsm.New(), now: 1_700_000_000e9}
	m.ok(clusterAt(level, "c1", "e1"))
	return m
}

// do applies a command and returns its result.
func (m *machine) do(c *fsmpb.Command) *fsmpb.Result {
	m.t.Helper()
	m.now += 1e6
	entry := &fsmpb.Entry{Stamp: m.now, Commands: []*fsmpb.Command{c}}
	m.log = append(m.log, entry)
	next, results, events := m.state.ApplyWith(uint64(len(m.log)), entry, func(sha256 []byte) *fsm.State { return m.backups[string(sha256)] })
	m.state, m.events = next, events
	return results[0]
}

func (m *machine) ok(c *fsmpb.Command) *fsmpb.Result {
	m.t.Helper()
	r := m.do(c)
	if r.Code != "" {
		m.t.Fatalf("%v: refused: %s: %s", c, r.Code, r.Detail)
	}
	return r
}

// refused wants a code, and that nothing but the index and time moved.
func (m *machine) refused(code fsm.Code, c *fsmpb.Command) *fsmpb.Result {
	m.t.Helper()
	seq := m.state.Seq()
	r := m.do(c)
	if r.Code != string(code) {
		m.t.Fatalf("%v: got %q (%s), want %q", c, r.Code, r.Detail, code)
	}
	if r.Detail == "" {
		m.t.Errorf("%v: no detail", c)
	}
	if m.state.Seq() != seq || len(m.events) != 0 {
		m.t.Errorf("%v: a refused command made events", c)
	}
	return r
}

func cluster(id, epoch string) *fsmpb.Command { return clusterAt(fsm.SupportedLevel, id, epoch) }

func clusterAt(level uint32, id, epoch string) *fsmpb.Command {
	return &fsmpb.Command{Op: &fsmpb.Command_InitCluster{InitCluster: &fsmpb.InitCluster{
		Identity: &fsmpb.Identity{ClusterId: id, Epoch: epoch}, FeatureLevel: level,
	}}}
}

func raiseLevel(to uint32) *fsmpb.Command {
	return &fsmpb.Command{By: "ann", Op: &fsmpb.Command_RaiseLevel{RaiseLevel: &fsmpb.RaiseLevel{Level: to}}}
}

func putTenant(name string) *fsmpb.Command {
	return &fsmpb.Command{Op: &fsmpb.Command_PutTenant{PutTenant: &fsmpb.PutTenant{Name: name}}}
}

func deleteTenant(name string) *fsmpb.Command {
	return &fsmpb.Command{Op: &fsmpb.Command_DeleteTenant{DeleteTenant: &fsmpb.DeleteTenant{Name: name}}}
}

func putFleet(tenant, name string) *fsmpb.Command {
	return &fsmpb.Command{Op: &fsmpb.Command_PutFleet{PutFleet: &fsmpb.PutFleet{Tenant: tenant, Name: name}}}
}

func deleteFleet(tenant, name string, force bool) *fsmpb.Command {
	return &fsmpb.Command{Op: &fsmpb.Command_DeleteFleet{
		DeleteFleet: &fsmpb.DeleteFleet{Tenant: tenant, Name: name, Force: force},
	}}
}

func change(fleet string, upsert ...*fsmpb.Resource) *fsmpb.Command {
	return &fsmpb.Command{By: "ann", Op: &fsmpb.Command_ChangeFleet{ChangeFleet: &fsmpb.ChangeFleet{
		Tenant: "default", Fleet: fleet, Upsert: upsert, Message: "why",
	}}}
}

func rollback(fleet string, to uint64) *fsmpb.Command {
	return &fsmpb.Command{Op: &fsmpb.Command_RollbackFleet{RollbackFleet: &fsmpb.RollbackFleet{
		Tenant: "default", Fleet: fleet, To: to,
	}}}
}

func putEndpoints(service, body string) *fsmpb.Command {
	return &fsmpb.Command{Op: &fsmpb.Command_PutEndpoints{PutEndpoints: &fsmpb.PutEndpoints{
		Tenant: "default", Service: service, Body: []byte(body), Hash: fsm.ResourceHash([]byte(body), nil, 0),
	}}}
}

func deleteEndpoints(service string) *fsmpb.Command {
	return &fsmpb.Command{Op: &fsmpb.Command_DeleteEndpoints{
		DeleteEndpoints: &fsmpb.DeleteEndpoints{Tenant: "default", Service: service},
	}}
}

func forget(before int64, limit uint32) *fsmpb.Command {
	return &fsmpb.Command{By: "cluster", Op: &fsmpb.Command_ForgetProxies{
		ForgetProxies: &fsmpb.ForgetProxies{ChangedBefore: before, Limit: limit},
	}}
}

func putSecret(name, content string) *fsmpb.Command {
	return &fsmpb.Command{Op: &fsmpb.Command_PutSecret{PutSecret: &fsmpb.PutSecret{
		Tenant: "default", Name: name, Sealed: []byte("sealed " + content), KeyId: "k1",
		Hash: fsm.ResourceHash([]byte(content), nil, 0), Info: &fsmpb.SecretInfo{Kind: "generic_secret"},
	}}}
}

func deleteSecret(name string) *fsmpb.Command {
	return &fsmpb.Command{Op: &fsmpb.Command_DeleteSecret{
		DeleteSecret: &fsmpb.DeleteSecret{Tenant: "default", Name: name},
	}}
}

func readOnly(on bool, message string) *fsmpb.Command {
	return &fsmpb.Command{By: "ann", Op: &fsmpb.Command_SetReadOnly{
		SetReadOnly: &fsmpb.SetReadOnly{ReadOnly: on, Message: message},
	}}
}

func resource(url, name, body string) *fsmpb.Resource {
	return &fsmpb.Resource{TypeUrl: url, Name: name, Body: []byte(body), Hash: fsm.ResourceHash([]byte(body), nil, 0)}
}

func removal(url, name string) *fsmpb.ResourceKey {
	return &fsmpb.ResourceKey{TypeUrl: url, Name: name}
}

func keyed(c *fsmpb.Command, key, request string) *fsmpb.Command {
	sum := sha256.Sum256([]byte(request))
	c.Idempotency = &fsmpb.IdempotencyKey{Key: key, RequestHash: sum[:]}
	return c
}

// fataler is a testing.TB or rapid's T.
type fataler interface{ Fatal(args ...any) }

func snapshot(t fataler, s *fsm.State) []byte {
	var buf bytes.Buffer
	if err := s.WriteSnapshot(&buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func changes(cs []*fsmpb.Change) string {
	out := ""
	for _, c := range cs {
		out += fmt.Sprintf("%s %s/%s;", c.Op, fsm.ShortType(c.TypeUrl), c.Name)
	}
	return out
}
