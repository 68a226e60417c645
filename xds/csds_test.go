package xds

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	statusv3 "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// clients asks for the status of clients once, over gRPC.
func (f *fixture) clients(r *statusv3.ClientStatusRequest) ([]*statusv3.ClientConfig, error) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	a, err := statusv3.NewClientStatusDiscoveryServiceClient(f.conn).FetchClientStatus(ctx, r)
	return a.GetConfig(), err
}

// client returns the one client that the service tells of.
func (f *fixture) client(r *statusv3.ClientStatusRequest) map[string]*statusv3.ClientConfig_GenericXdsConfig {
	f.t.Helper()
	cs, err := f.clients(r)
	check(f.t, err)
	if len(cs) != 1 || cs[0].Node.GetId() != "p1" || cs[0].Node.GetCluster() != "web" {
		f.t.Fatalf("clients %v", cs)
	}
	out := map[string]*statusv3.ClientConfig_GenericXdsConfig{}
	for _, g := range cs[0].GenericXdsConfigs {
		out[fsm.ShortType(g.TypeUrl)+" "+g.Name] = g
	}
	return out
}

func TestClientStatus(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		f.replace(cluster(t, "a", 1), cluster(t, "b", 1))
		c := f.connect(method)
		c.ask(fsm.TypeCluster)
		c.accept("cluster a b")
		c.ask(fsm.TypeRoute, "none")
		if c.delta {
			c.accept("route -none")
		}
		f.replace(cluster(t, "a", 2), cluster(t, "b", 1))
		r := c.next()
		eventually(t, "registered", func() bool { return f.streamsOf("p1") == 1 })
		want := func(name string, s statusv3.ConfigStatus, cs adminv3.ClientResourceStatus) *statusv3.ClientConfig_GenericXdsConfig {
			t.Helper()
			var g *statusv3.ClientConfig_GenericXdsConfig
			eventually(t, name+" is "+s.String(), func() bool {
				g = f.client(&statusv3.ClientStatusRequest{})[name]
				return g.GetConfigStatus() == s && g.GetClientStatus() == cs
			})
			return g
		}
		want("cluster b", statusv3.ConfigStatus_SYNCED, adminv3.ClientResourceStatus_ACKED)
		want("cluster a", statusv3.ConfigStatus_STALE, adminv3.ClientResourceStatus_UNKNOWN)
		want("route none", statusv3.ConfigStatus_NOT_SENT, adminv3.ClientResourceStatus_DOES_NOT_EXIST)
		c.nack(r, "a is bad")
		g := want("cluster a", statusv3.ConfigStatus_ERROR, adminv3.ClientResourceStatus_NACKED)
		rev, _ := f.current().Revision("default", "web", 0)
		a, _ := rev.Resource(fsm.TypeCluster, "a")
		if e := g.ErrorState; e.GetDetails() != "a is bad" || e.GetVersionInfo() != a.Version || e.GetLastUpdateAttempt() == nil || g.VersionInfo != a.Version {
			t.Errorf("%v, want version %s", g, a.Version)
		}
		m := &clusterv3.Cluster{}
		check(t, g.XdsConfig.UnmarshalTo(m))
		if m.ConnectTimeout.AsDuration() != 2*time.Second {
			t.Errorf("the content is %v", m)
		}
		g = f.client(&statusv3.ClientStatusRequest{ExcludeResourceContents: true})["cluster b"]
		if g.XdsConfig != nil || g.VersionInfo == "" || g.LastUpdated == nil || g.ErrorState != nil {
			t.Errorf("without contents: %v", g)
		}
	})
}

// The answers of all nodes make one, of each resource the worst.
func TestClientStatusOfTheCluster(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1))
	c := f.connect(adsDelta)
	c.ask(fsm.TypeCluster)
	c.accept("cluster a")
	eventually(t, "registered", func() bool { return f.streamsOf("p1") == 1 })
	tell := func(s fsmpb.ResourceConfig_Status, name string) *fsmpb.Answer {
		return &fsmpb.Answer{Answer: &fsmpb.Answer_Config{Config: &fsmpb.ConfigAnswer{Streams: []*fsmpb.StreamConfig{{
			Stream: &fsmpb.StreamReport{Proxy: "p1"}, Types: []*fsmpb.TypeConfig{{
				TypeUrl: fsm.TypeCluster, Resources: []*fsmpb.ResourceConfig{{Name: name, Status: s, Should: "1-aa", Acked: "1-aa"}},
			}},
		}}}}}
	}
	answers := []*fsmpb.Answer{
		tell(fsmpb.ResourceConfig_SYNCED, "a"), tell(fsmpb.ResourceConfig_REJECTED, "a"),
		tell(fsmpb.ResourceConfig_PENDING, "a"), tell(fsmpb.ResourceConfig_SYNCED, "b"),
	}
	f.server.deps.Gather = func(context.Context, *fsmpb.Query) ([]*fsmpb.Answer, map[string]error) {
		return answers, map[string]error{"node-9": errors.New("down")}
	}
	got := f.client(&statusv3.ClientStatusRequest{})
	if len(got) != 2 || got["cluster a"].ConfigStatus != statusv3.ConfigStatus_ERROR || got["cluster b"].ConfigStatus != statusv3.ConfigStatus_SYNCED {
		t.Errorf("%v", got)
	}
	answers = []*fsmpb.Answer{{Answer: &fsmpb.Answer_Config{Config: &fsmpb.ConfigAnswer{Truncated: true}}}}
	_, err := f.clients(&statusv3.ClientStatusRequest{})
	wantCode(t, err, codes.ResourceExhausted, "node_matchers")
}

func wantCode(t *testing.T, err error, code codes.Code, text string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(err.Error(), text) {
		t.Errorf("%v, want %s: %s", err, code, text)
	}
}

func TestClientStatusStream(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s, err := statusv3.NewClientStatusDiscoveryServiceClient(f.conn).StreamClientStatus(ctx)
	check(t, err)
	for n := range 3 {
		check(t, s.Send(&statusv3.ClientStatusRequest{}))
		a, err := s.Recv()
		check(t, err)
		if len(a.Config) != n {
			t.Fatalf("%d clients, want %d", len(a.Config), n)
		}
		id := sprintf("p%d", n)
		c := f.connectAs(adsDelta, node(id, "web", ""))
		c.ask(fsm.TypeCluster)
		eventually(t, "registered", func() bool { return f.streamsOf(id) == 1 })
	}
	check(t, s.Send(&statusv3.ClientStatusRequest{NodeMatchers: []*matcherv3.NodeMatcher{byID(&matcherv3.StringMatcher{})}}))
	_, err = s.Recv()
	wantCode(t, err, codes.InvalidArgument, "node_matchers[0].node_id")
}

func TestClientStatusIsBounded(t *testing.T) {
	f := newFixture(t)
	var reports []*fsmpb.ProxyReport
	for i := range maxStatusClients + 1 {
		reports = append(reports, &fsmpb.ProxyReport{
			Tenant: "default", Id: sprintf("p%d", i), Stream: uint64(i + 1),
			Report: &fsmpb.ProxyReport_Connected_{Connected: &fsmpb.ProxyReport_Connected{Fleet: "web"}},
		})
	}
	f.do(&fsmpb.Command{Op: &fsmpb.Command_ReportProxies{ReportProxies: &fsmpb.ReportProxies{
		Node: "other", NodeStart: 1, Batch: 1, Reports: reports,
	}}})
	_, err := f.clients(&statusv3.ClientStatusRequest{})
	wantCode(t, err, codes.ResourceExhausted, "1001 proxies are selected")
	cs, err := f.clients(&statusv3.ClientStatusRequest{NodeMatchers: []*matcherv3.NodeMatcher{byID(prefix("p100"))}})
	check(t, err)
	if len(cs) != 2 { // no node tells of their streams
		t.Fatalf("%d clients, want p100 and p1000", len(cs))
	}
	cs, err = f.clients(&statusv3.ClientStatusRequest{Node: node("", "", "acme")})
	if err != nil || len(cs) != 0 {
		t.Errorf("another tenant sees %v, %v", cs, err)
	}
	_, err = f.clients(&statusv3.ClientStatusRequest{Node: node("", "", "a\x00b")})
	wantCode(t, err, codes.InvalidArgument, "tenant")
	_, err = f.clients(&statusv3.ClientStatusRequest{NodeMatchers: make([]*matcherv3.NodeMatcher, maxMatchers+1)})
	wantCode(t, err, codes.InvalidArgument, "at most")
}

func byID(m *matcherv3.StringMatcher) *matcherv3.NodeMatcher {
	return &matcherv3.NodeMatcher{NodeId: m}
}

func exact(s string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: s}}
}

func prefix(s string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: s}}
}

func regex(s string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: s}}}
}

func inMetadata(v *matcherv3.ValueMatcher, path ...string) *matcherv3.NodeMatcher {
	m := &matcherv3.StructMatcher{Value: v}
	for _, key := range path {
		m.Path = append(m.Path, &matcherv3.StructMatcher_PathSegment{Segment: &matcherv3.StructMatcher_PathSegment_Key{Key: key}})
	}
	return &matcherv3.NodeMatcher{NodeMetadatas: []*matcherv3.StructMatcher{m}}
}

func textValue(m *matcherv3.StringMatcher) *matcherv3.ValueMatcher {
	return &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_StringMatch{StringMatch: m}}
}

func presence(b bool) *matcherv3.ValueMatcher {
	return &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_PresentMatch{PresentMatch: b}}
}

func either(vs ...*matcherv3.ValueMatcher) *matcherv3.ValueMatcher {
	return &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_OrMatch{OrMatch: &matcherv3.OrMatcher{ValueMatchers: vs}}}
}

func TestNodeMatchers(t *testing.T) {
	rows := []*fsmpb.Proxy{
		{Id: "edge-1", Tenant: "default", Labels: map[string]string{"zone": "eu-1", "stage": "Canary"}},
		{Id: "edge-2", Tenant: "default", Labels: map[string]string{"zone": "us-1"}},
		{Id: "Core", Tenant: "default"},
	}
	folded := exact("core")
	folded.IgnoreCase = true
	both := byID(exact("edge-2"))
	both.NodeMetadatas = inMetadata(textValue(prefix("eu")), "labels", "zone").NodeMetadatas
	for name, tc := range map[string]struct {
		of   []*matcherv3.NodeMatcher
		want string
	}{
		"none":           {nil, "edge-1 edge-2 Core"},
		"empty":          {[]*matcherv3.NodeMatcher{{}}, "edge-1 edge-2 Core"},
		"exact":          {[]*matcherv3.NodeMatcher{byID(exact("edge-1"))}, "edge-1"},
		"one of two":     {[]*matcherv3.NodeMatcher{byID(exact("edge-1")), byID(exact("Core"))}, "edge-1 Core"},
		"prefix":         {[]*matcherv3.NodeMatcher{byID(prefix("edge"))}, "edge-1 edge-2"},
		"suffix":         {[]*matcherv3.NodeMatcher{byID(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Suffix{Suffix: "-2"}})}, "edge-2"},
		"contains":       {[]*matcherv3.NodeMatcher{byID(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Contains{Contains: "ge-"}})}, "edge-1 edge-2"},
		"any case":       {[]*matcherv3.NodeMatcher{byID(folded)}, "Core"},
		"whole pattern":  {[]*matcherv3.NodeMatcher{byID(regex("edge|edge-."))}, "edge-1 edge-2"},
		"label":          {[]*matcherv3.NodeMatcher{inMetadata(textValue(prefix("eu")), "labels", "zone")}, "edge-1"},
		"both must hold": {[]*matcherv3.NodeMatcher{both}, ""},
		"label is there": {[]*matcherv3.NodeMatcher{inMetadata(presence(true), "labels", "stage")}, "edge-1"},
		"label is not":   {[]*matcherv3.NodeMatcher{inMetadata(presence(false), "labels", "stage")}, "edge-2 Core"},
		"labels":         {[]*matcherv3.NodeMatcher{inMetadata(presence(true), "labels")}, "edge-1 edge-2"},
		"below a label":  {[]*matcherv3.NodeMatcher{inMetadata(presence(true), "labels", "zone", "x")}, ""},
		"tenant":         {[]*matcherv3.NodeMatcher{inMetadata(textValue(exact("default")), "tenant")}, "edge-1 edge-2 Core"},
		"or":             {[]*matcherv3.NodeMatcher{inMetadata(either(textValue(exact("eu-1")), textValue(exact("us-1"))), "labels", "zone")}, "edge-1 edge-2"},
		"other kinds": {[]*matcherv3.NodeMatcher{inMetadata(&matcherv3.ValueMatcher{
			MatchPattern: &matcherv3.ValueMatcher_BoolMatch{BoolMatch: true},
		}, "labels", "zone")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := compile(tc.of)
			check(t, err)
			var got []string
			for _, row := range slices.DeleteFunc(slices.Clone(rows), func(r *fsmpb.Proxy) bool { return !p(r) }) {
				got = append(got, row.Id)
			}
			if strings.Join(got, " ") != tc.want {
				t.Errorf("%v, want %s", got, tc.want)
			}
		})
	}
	deep := textValue(exact("x"))
	for range maxMatcherDepth + 1 {
		deep = either(deep)
	}
	for want, m := range map[string]*matcherv3.NodeMatcher{
		"node_id: <nil> cannot be evaluated":            byID(&matcherv3.StringMatcher{}),
		"StringMatcher_Custom":                          byID(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Custom{}}),
		"missing closing":                               byID(regex("(")),
		"longer than":                                   byID(regex(strings.Repeat("x", maxPattern+1))),
		"only tenant and labels are kept, not \"role\"": inMetadata(presence(true), "role"),
		`not ""`:                           inMetadata(presence(true)),
		"value: <nil> cannot be evaluated": inMetadata(nil, "tenant"),
		"nested more than":                 inMetadata(deep, "tenant"),
	} {
		if _, err := compile([]*matcherv3.NodeMatcher{{}, m}); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "node_matchers[1].") {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// The node shown has what the matchers go by.
func TestClientsNode(t *testing.T) {
	n := nodeOf(&fsmpb.Proxy{Id: "p", Fleet: "web", Tenant: "acme", Labels: map[string]string{"a": "b"}, Locality: &fsmpb.Locality{Zone: "z"}})
	labels := n.Metadata.Fields["labels"].GetStructValue().GetFields()["a"]
	if n.Metadata.Fields["tenant"].GetStringValue() != "acme" || labels.GetStringValue() != "b" || n.Locality.Zone != "z" {
		t.Errorf("%v", n)
	}
}
