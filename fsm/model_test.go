package fsm_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// model is the state as somebody would write it who has all the time and
// memory in the world: whole copies in plain maps.
type model struct {
	tenants   map[string]bool
	fleets    map[string][]map[string]string // "tenant/fleet": contents by revision, 0 empty
	endpoints map[string]string              // "tenant/service"
	secrets   map[string]string              // "tenant/name": sealed
	streams   map[string]map[string]bool     // "tenant/proxy": "node/start/number"
	events    int
	level     uint32
	readOnly  bool
	leader    string
	term      uint64
	members   map[string]fsmpb.Member_Role
}

func newModel(level uint32) *model {
	return &model{
		level:   level,
		tenants: map[string]bool{"default": true}, fleets: map[string][]map[string]string{},
		endpoints: map[string]string{}, secrets: map[string]string{}, streams: map[string]map[string]bool{}, events: 1,
	}
}

func (m *model) owned(tenant string) bool {
	for k := range m.fleets {
		if strings.HasPrefix(k, tenant+"/") {
			return true
		}
	}
	for k := range m.endpoints {
		if strings.HasPrefix(k, tenant+"/") {
			return true
		}
	}
	for k := range m.secrets {
		if strings.HasPrefix(k, tenant+"/") {
			return true
		}
	}
	for k, streams := range m.streams {
		if len(streams) > 0 && strings.HasPrefix(k, tenant+"/") {
			return true
		}
	}
	return false
}

// record counts what is another member, role or term than before.
func (m *model) record(now *fsmpb.Membership) fsm.Code {
	if m.level < 4 || now.Term < m.term {
		return fsm.CodeInvalid
	}
	members := map[string]fsmpb.Member_Role{}
	for _, x := range now.Members {
		members[x.ServerId] = x.Role
		if m.members[x.ServerId] != x.Role {
			m.events++
		}
	}
	for id := range m.members {
		if _, stays := members[id]; !stays {
			m.events++
		}
	}
	if now.Term != m.term || now.Leader != m.leader {
		m.events++
	}
	m.leader, m.term, m.members = now.Leader, now.Term, members
	return ""
}

// apply returns the code that the command should answer.
func (m *model) apply(c *fsmpb.Command) fsm.Code {
	switch op := c.Op.(type) {
	case *fsmpb.Command_RaiseLevel:
		if op.RaiseLevel.Level > m.level {
			m.level = op.RaiseLevel.Level
			m.events++
		}
		return ""
	case *fsmpb.Command_SetReadOnly:
		if m.level < 2 {
			return fsm.CodeInvalid
		}
		if op.SetReadOnly.ReadOnly != m.readOnly {
			m.events++
		}
		m.readOnly = op.SetReadOnly.ReadOnly
		return ""
	case *fsmpb.Command_RecordMembership:
		return m.record(op.RecordMembership.Membership)
	case *fsmpb.Command_ForgetProxies, *fsmpb.Command_ReportProxies:
	default:
		if m.readOnly {
			return fsm.CodeReadOnly
		}
	}
	switch op := c.Op.(type) {
	case *fsmpb.Command_PutTenant:
		if !m.tenants[op.PutTenant.Name] {
			m.events++
		}
		m.tenants[op.PutTenant.Name] = true
	case *fsmpb.Command_DeleteTenant:
		return m.deleteTenant(op.DeleteTenant.Name)
	case *fsmpb.Command_PutFleet:
		if !m.tenants[op.PutFleet.Tenant] {
			return fsm.CodeTenantNotFound
		}
		k := op.PutFleet.Tenant + "/" + op.PutFleet.Name
		if m.fleets[k] == nil {
			m.fleets[k] = []map[string]string{{}}
			m.events++
		}
	case *fsmpb.Command_DeleteFleet:
		if code := m.fleet(op.DeleteFleet.Tenant, op.DeleteFleet.Name); code != "" {
			return code
		}
		delete(m.fleets, op.DeleteFleet.Tenant+"/"+op.DeleteFleet.Name)
		m.events++
	case *fsmpb.Command_ChangeFleet:
		return m.change(op.ChangeFleet)
	case *fsmpb.Command_RollbackFleet:
		return m.rollback(op.RollbackFleet)
	case *fsmpb.Command_PutEndpoints:
		if !m.tenants[op.PutEndpoints.Tenant] {
			return fsm.CodeTenantNotFound
		}
		k, body := op.PutEndpoints.Tenant+"/"+op.PutEndpoints.Service, string(op.PutEndpoints.Body)
		if old, ok := m.endpoints[k]; !ok || old != body {
			m.events++
		}
		m.endpoints[k] = body
	case *fsmpb.Command_PutSecret:
		if !m.tenants[op.PutSecret.Tenant] {
			return fsm.CodeTenantNotFound
		}
		k, sealed := op.PutSecret.Tenant+"/"+op.PutSecret.Name, string(op.PutSecret.Sealed)
		if m.secrets[k] != sealed {
			m.events++
		}
		m.secrets[k] = sealed
	case *fsmpb.Command_DeleteSecret:
		k := op.DeleteSecret.Tenant + "/" + op.DeleteSecret.Name
		switch {
		case !m.tenants[op.DeleteSecret.Tenant]:
			return fsm.CodeTenantNotFound
		case m.secrets[k] == "":
			return fsm.CodeSecretNotFound
		}
		delete(m.secrets, k)
		m.events++
	case *fsmpb.Command_ForgetProxies: // all of them, whenever they changed
		for k, streams := range m.streams {
			if len(streams) == 0 {
				delete(m.streams, k)
				m.events++
			}
		}
	case *fsmpb.Command_ReportProxies:
		m.report(op.ReportProxies)
	}
	return ""
}

func (m *model) deleteTenant(name string) fsm.Code {
	switch {
	case !m.tenants[name]:
		return fsm.CodeTenantNotFound
	case name == "default":
		return fsm.CodeTenantProtected
	case m.owned(name):
		return fsm.CodeTenantNotEmpty
	}
	delete(m.tenants, name)
	for k := range m.streams {
		if strings.HasPrefix(k, name+"/") {
			delete(m.streams, k)
		}
	}
	m.events++
	return ""
}

func (m *model) fleet(tenant, name string) fsm.Code {
	if !m.tenants[tenant] {
		return fsm.CodeTenantNotFound
	}
	if m.fleets[tenant+"/"+name] == nil {
		return fsm.CodeFleetNotFound
	}
	return ""
}

func (m *model) change(c *fsmpb.ChangeFleet) fsm.Code {
	if code := m.fleet(c.Tenant, c.Fleet); code != "" {
		return code
	}
	revisions := m.fleets[c.Tenant+"/"+c.Fleet]
	if c.ExpectRevision != nil && *c.ExpectRevision != uint64(len(revisions)-1) {
		return fsm.CodeRevisionConflict
	}
	base, next := revisions[len(revisions)-1], map[string]string{}
	if c.Mode == fsmpb.ChangeFleet_MERGE {
		next = maps.Clone(base)
	}
	for _, k := range c.Delete {
		delete(next, k.TypeUrl+" "+k.Name)
	}
	for _, r := range c.Upsert {
		next[r.TypeUrl+" "+r.Name] = string(r.Body)
	}
	return m.advance(c.Tenant+"/"+c.Fleet, next)
}

func (m *model) rollback(c *fsmpb.RollbackFleet) fsm.Code {
	if code := m.fleet(c.Tenant, c.Fleet); code != "" {
		return code
	}
	revisions := m.fleets[c.Tenant+"/"+c.Fleet]
	if c.To == 0 || c.To >= uint64(len(revisions)) {
		return fsm.CodeRevisionNotFound
	}
	return m.advance(c.Tenant+"/"+c.Fleet, revisions[c.To])
}

func (m *model) advance(fleet string, next map[string]string) fsm.Code {
	revisions := m.fleets[fleet]
	if !maps.Equal(revisions[len(revisions)-1], next) {
		m.fleets[fleet] = append(revisions, next)
		m.events++
	}
	return ""
}

// report is for batches that are all new; the test makes no others.
func (m *model) report(c *fsmpb.ReportProxies) {
	for _, r := range c.Reports {
		k, s := r.Tenant+"/"+r.Id, fmt.Sprintf("%s/%d/%d", c.Node, c.NodeStart, r.Stream)
		switch r.Report.(type) {
		case *fsmpb.ProxyReport_Connected_:
			if m.streams[k] == nil {
				m.streams[k] = map[string]bool{}
			}
			if !m.streams[k][s] {
				m.events++
			}
			m.streams[k][s] = true
		case *fsmpb.ProxyReport_Disconnected_:
			if m.streams[k][s] {
				m.events++
			}
			delete(m.streams[k], s)
		}
	}
}

// same fails unless the state says what the model says.
func (m *model) same(t *rapid.T, s *fsm.State) {
	var tenants []string
	fleets, endpoints, secrets, proxies := 0, 0, 0, 0
	for row := range s.Tenants("") {
		tenants = append(tenants, row.Name)
	}
	if want := slices.Sorted(maps.Keys(m.tenants)); !slices.Equal(tenants, want) {
		t.Fatalf("tenants %v, want %v", tenants, want)
	}
	for _, tenant := range tenants {
		for f := range s.Fleets(tenant, "") {
			fleets++
			m.sameFleet(t, s, f)
		}
		for e := range s.EndpointsOf(tenant, "") {
			endpoints++
			if m.endpoints[tenant+"/"+e.Service] != string(e.Body) {
				t.Fatalf("endpoints %v", e)
			}
		}
		for x := range s.SecretsOf(tenant, "") {
			secrets++
			if m.secrets[tenant+"/"+x.Name] != string(x.Sealed) {
				t.Fatalf("secret %v", x)
			}
		}
	}
	for p := range s.AllProxies() {
		proxies++
		if len(p.Streams) != len(m.streams[p.Tenant+"/"+p.Id]) {
			t.Fatalf("proxy %v", p)
		}
	}
	got, want := [4]int{fleets, endpoints, secrets, proxies}, [4]int{len(m.fleets), len(m.endpoints), len(m.secrets), len(m.streams)}
	if got != want {
		t.Fatalf("fleets, endpoints, secrets, proxies: %v, want %v", got, want)
	}
	if s.FeatureLevel() != m.level {
		t.Fatalf("level %d, want %d", s.FeatureLevel(), m.level)
	}
	if (s.ReadOnly() != nil) != m.readOnly {
		t.Fatalf("read-only %v, want %v", s.ReadOnly(), m.readOnly)
	}
	if got := s.Membership(); got.GetLeader() != m.leader || got.GetTerm() != m.term || len(got.GetMembers()) != len(m.members) {
		t.Fatalf("membership %v, want %v under %s in term %d", got, m.members, m.leader, m.term)
	}
	if s.Seq() != uint64(m.events) {
		t.Fatalf("%d events, want %d", s.Seq(), m.events)
	}
}

func (m *model) sameFleet(t *rapid.T, s *fsm.State, f *fsmpb.Fleet) {
	revisions := m.fleets[f.Tenant+"/"+f.Name]
	if f.Revision != uint64(len(revisions)-1) {
		t.Fatalf("fleet at %d, want %d", f.Revision, len(revisions)-1)
	}
	for r := range s.Revisions(f.Tenant, f.Name, 0) {
		got := map[string]string{}
		for _, url := range r.Types() {
			for res := range r.Resources(url) {
				got[url+" "+res.Name] = string(res.Body)
			}
		}
		if want := revisions[r.Info.Revision]; !maps.Equal(got, want) {
			t.Fatalf("revision %d is %v, want %v", r.Info.Revision, got, want)
		}
	}
}

// drawCommand draws from names so few that commands meet.
func drawCommand(t *rapid.T, batch uint64) *fsmpb.Command {
	pick := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	tenant := pick("tenant", "default", "acme")
	fleet := pick("fleet", "a", "ab")
	switch pick("verb", "tenant", "drop tenant", "fleet", "drop fleet", "change", "change", "change", "rollback", "endpoints", "secret", "report", "forget", "read-only", "level", "members") {
	case "tenant":
		return putTenant(tenant)
	case "drop tenant":
		return deleteTenant(tenant)
	case "fleet":
		return putFleet(tenant, fleet)
	case "drop fleet":
		return deleteFleet(tenant, fleet, true)
	case "rollback":
		c := rollback(fleet, rapid.Uint64Range(0, 5).Draw(t, "to"))
		c.GetRollbackFleet().Tenant, c.GetRollbackFleet().Force = tenant, true
		return c
	case "endpoints":
		c := putEndpoints(pick("service", "web", "api"), pick("body", "1", "2"))
		c.GetPutEndpoints().Tenant = tenant
		return c
	case "secret":
		c := putSecret(pick("secret", "a", "ab"), pick("content", "1", "2"))
		c.GetPutSecret().Tenant = tenant
		if rapid.Bool().Draw(t, "drop") {
			c = deleteSecret(c.GetPutSecret().Name)
			c.GetDeleteSecret().Tenant = tenant
		}
		return c
	case "forget":
		return forget(1<<62, 1000)
	case "members":
		members := []*fsmpb.Member{voter("n1")}
		for _, node := range []string{"n2", "n3"} {
			switch rapid.IntRange(0, 2).Draw(t, node) {
			case 1:
				members = append(members, voter(node))
			case 2:
				members = append(members, nonvoter(node))
			}
		}
		return membership(pick("leader", "n1", "n2"), rapid.Uint64Range(1, 9).Draw(t, "term"), members...)
	case "level":
		return raiseLevel(rapid.Uint32Range(0, fsm.SupportedLevel).Draw(t, "level"))
	case "read-only": // more often off than on
		return readOnly(rapid.IntRange(0, 2).Draw(t, "on") == 0, "why")
	case "report":
		stream := rapid.Uint64Range(0, 3).Draw(t, "stream")
		r := disconnected(tenant, pick("proxy", "p", "q"), stream)
		if rapid.Bool().Draw(t, "connects") {
			r = connected(tenant, pick("proxy", "p", "q"), stream, fleet)
		}
		return report(pick("node", "n1", "n2"), 1, batch, r)
	}
	return drawChange(t, tenant, fleet)
}

func drawChange(t *rapid.T, tenant, fleet string) *fsmpb.Command {
	keys := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "ab", "b", "c"}), 0, 4, rapid.ID).Draw(t, "names")
	c := &fsmpb.ChangeFleet{Tenant: tenant, Fleet: fleet, Force: true}
	for _, name := range keys {
		url := rapid.SampledFrom([]string{fsm.TypeCluster, fsm.TypeListener}).Draw(t, "type")
		if rapid.Bool().Draw(t, "delete") {
			c.Delete = append(c.Delete, removal(url, name))
		} else {
			c.Upsert = append(c.Upsert, resource(url, name, rapid.SampledFrom([]string{"1", "2"}).Draw(t, "body")))
		}
	}
	c.Mode = fsmpb.ChangeFleet_Mode(rapid.IntRange(0, 1).Draw(t, "mode"))
	if rapid.IntRange(0, 3).Draw(t, "expects") == 0 {
		c.ExpectRevision = proto.Uint64(rapid.Uint64Range(0, 4).Draw(t, "expect"))
	}
	return &fsmpb.Command{Op: &fsmpb.Command_ChangeFleet{ChangeFleet: c}}
}

func TestStateAgreesWithModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		level := rapid.Uint32Range(fsm.BaseLevel, fsm.SupportedLevel).Draw(t, "founded at")
		want := newModel(level)
		s, _, _ := fsm.New().Apply(1, &fsmpb.Entry{Commands: []*fsmpb.Command{clusterAt(level, "c", "e")}})
		index, batch := uint64(1), uint64(0)
		for range rapid.IntRange(1, 40).Draw(t, "entries") {
			entry := &fsmpb.Entry{Stamp: int64(index)}
			var codes []fsm.Code
			for range rapid.IntRange(1, 3).Draw(t, "commands") {
				batch++
				c := drawCommand(t, batch)
				entry.Commands = append(entry.Commands, c)
				codes = append(codes, want.apply(c))
			}
			old, oldBytes := s, snapshot(t, s)
			index++
			next, results, _ := s.Apply(index, entry)
			for i, r := range results {
				if fsm.Code(r.Code) != codes[i] {
					t.Fatalf("%v: got %q, want %q", entry.Commands[i], r.Code, codes[i])
				}
			}
			s = next
			want.same(t, s)
			if !bytes.Equal(snapshot(t, old), oldBytes) {
				t.Fatal("Apply changed the state that it started from")
			}
		}
		restored, err := fsm.ReadSnapshot(bytes.NewReader(snapshot(t, s)))
		if err != nil {
			t.Fatal(err)
		}
		want.same(t, restored)
	})
}
