package xds

import (
	"context"
	"fmt"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func sprintf(format string, args ...any) string { return fmt.Sprintf(format, args...) }

// metric sums a counter or gauge over its labels.
func (f *fixture) metric(name string, labels ...string) float64 {
	f.t.Helper()
	families, err := f.registry.Gather()
	check(f.t, err)
	sum := 0.0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.Metric {
			if hasLabels(m, labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

func hasLabels(m *dto.Metric, want []string) bool {
	for _, w := range want {
		found := false
		for _, l := range m.Label {
			found = found || l.GetValue() == w
		}
		if !found {
			return false
		}
	}
	return true
}

func (f *fixture) streams(tenant, fleet string, proxies ...string) []*fsmpb.StreamReport {
	f.t.Helper()
	a, err := f.server.Answer(context.Background(), &fsmpb.Query{Query: &fsmpb.Query_Streams{
		Streams: &fsmpb.StreamsQuery{Tenant: tenant, Fleet: fleet, Proxies: proxies},
	}})
	check(f.t, err)
	return a.GetStreams().GetStreams()
}

// typeOf returns what the one stream has of a type.
func (f *fixture) typeOf(url string) *fsmpb.TypeReport {
	f.t.Helper()
	for _, s := range f.streams("default", "") {
		for _, t := range s.Types {
			if t.TypeUrl == url {
				return t
			}
		}
	}
	f.t.Fatalf("no stream asks for %s", url)
	return nil
}

func (f *fixture) sync(proxy string, revision uint64) *fsmpb.ProxySync {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	a, err := f.server.Answer(ctx, &fsmpb.Query{Query: &fsmpb.Query_Fleet{Fleet: &fsmpb.FleetQuery{
		Tenant: "default", Fleet: "web", Revision: revision, MinIndex: f.current().Index(),
	}}})
	check(f.t, err)
	for _, p := range a.GetFleet().GetProxies() {
		if p.Proxy == proxy {
			return p
		}
	}
	f.t.Fatalf("no proxy %q", proxy)
	return nil
}

func (f *fixture) syncOf(proxy string, revision uint64) string {
	f.t.Helper()
	return f.sync(proxy, revision).State.String()
}

func (f *fixture) wantSync(proxy string, revision uint64, state string, reached uint64) {
	f.t.Helper()
	var got *fsmpb.ProxySync
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		got = f.sync(proxy, revision)
		if got.State.String() == state && got.Revision == reached {
			return
		}
	}
	f.t.Fatalf("asked for revision %d: %v, want %s at %d", revision, got, state, reached)
}

// A stream is found a moment before its first request is taken in, and a moment
// after its types were let go: it says nothing of what its proxy has.
func TestAStreamWithoutTypesIsNotSynced(t *testing.T) {
	f := newFixture(t)
	one := f.replace(cluster(t, "a", 1))
	st := &stream{server: f.server, number: 99, id: Identity{Tenant: "default", Fleet: "web", Proxy: "p1"}}
	f.server.hub.join(fleetKey{"default", "web"}, st)
	f.wantSync("p1", one, "PENDING", 0)
	f.wantSync("p1", 0, "PENDING", 0)
	c := f.connect(adsDelta)
	c.ask(fsm.TypeCluster)
	c.accept("cluster a")
	f.wantSync("p1", one, "PENDING", 0)
	f.server.hub.leave(st.scope, st)
	f.wantSync("p1", one, "SYNCED", one)
}

// A stream that has just begun may still ask for more: it counts when it has
// asked for all that its fleet has, or is not young any more.
func TestAStreamThatStillAsksIsNotSynced(t *testing.T) {
	for _, grace := range []time.Duration{time.Hour, 200 * time.Millisecond} {
		f := newFixture(t, func(c *Config) { c.WarmingGrace = grace })
		one := f.replace(cluster(t, "a", 1), listener(t, "l", 1))
		c := f.connect(adsDelta)
		c.ask(fsm.TypeCluster)
		c.accept("cluster a")
		if grace == time.Hour {
			f.wantSync("p1", one, "PENDING", 0)
			c.ask(fsm.TypeListener)
			c.accept("listener l")
		}
		f.wantSync("p1", one, "SYNCED", one)
	}
}

func TestSynced(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		one := f.replace(cluster(t, "a", 1), listener(t, "l", 80))
		c := f.connect(method)
		c.ask(fsm.TypeCluster)
		r := c.want("cluster a")
		f.wantSync("p1", 0, "PENDING", 0)
		c.ack(r)
		f.wantSync("p1", one, "SYNCED", one)

		// What it does not subscribe to does not hold it up.
		two := f.replace(cluster(t, "a", 1), listener(t, "l", 81))
		f.wantSync("p1", two, "SYNCED", two)
		c.ask(fsm.TypeListener)
		r = c.want("listener l")
		f.wantSync("p1", two, "PENDING", 0)
		c.ack(r)
		f.wantSync("p1", two, "SYNCED", two)

		// Nor do endpoints.
		c.ask(fsm.TypeEndpoints, "a")
		c.next()
		f.wantSync("p1", two, "SYNCED", two)

		three := f.replace(cluster(t, "a", 2), listener(t, "l", 81))
		r = c.next()
		f.wantSync("p1", three, "PENDING", two)
		f.wantSync("p1", two, "SYNCED", two)
		c.ack(r)
		f.wantSync("p1", three, "SYNCED", three)

		// Another stream of the proxy counts as well.
		other := f.connect(method)
		other.ask(fsm.TypeRoute, "r")
		other.ask(fsm.TypeCluster)
		r = other.next()
		if r.url == fsm.TypeRoute {
			other.ack(r)
			r = other.next()
		}
		f.wantSync("p1", three, "PENDING", 0)
		other.ack(r)
		f.wantSync("p1", three, "SYNCED", three)
	})
}

func TestFleetQueryWaitsForItsIndex(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1))
	eventually(t, "the node's past is dropped", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.proposals == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	q := &fsmpb.Query{Query: &fsmpb.Query_Fleet{Fleet: &fsmpb.FleetQuery{
		Tenant: "default", Fleet: "web", MinIndex: f.current().Index() + 1,
	}}}
	if _, err := f.server.Answer(ctx, q); fsm.CodeOf(err) != fsm.CodeTimeout {
		t.Fatalf("error %v, want a timeout", err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := f.server.Answer(context.Background(), q)
		done <- err
	}()
	f.replace(cluster(t, "a", 2))
	check(t, <-done)
	if _, err := f.server.Answer(ctx, &fsmpb.Query{}); fsm.CodeOf(err) != fsm.CodeInvalid {
		t.Fatalf("error %v for no question", err)
	}
}

func TestStreamsQuery(t *testing.T) {
	f := newFixture(t)
	rev := f.replace(cluster(t, "a", 1))
	f.tenant("acme")
	f.replaceIn("acme", "edge", cluster(t, "x", 1))
	c := f.connectAs(adsState, node("p1", "web", ""))
	c.ask(fsm.TypeCluster)
	r := c.accept("cluster a")
	d := f.connectAs(adsDelta, node("p2", "edge", "acme"))
	d.ask(fsm.TypeCluster)
	x := d.accept("cluster x")
	eventually(t, "both answered", func() bool {
		return len(f.streams("", "")) == 2 && f.typeOf(fsm.TypeCluster).Acked != "" && f.streams("acme", "")[0].Types[0].Acked != ""
	})
	s := f.streams("default", "web")[0]
	if s.Proxy != "p1" || s.Protocol != "sotw" || s.Revision != rev || s.Peer == "" || s.NodeStart != nodeStart || s.WaitingFor != "" {
		t.Fatalf("stream %v", s)
	}
	if k := s.Types[0]; !k.Wildcard || k.Sent != r.version || k.Acked != r.version || k.AckedRevision != rev || k.SentAt == 0 || k.AckedAt < k.SentAt {
		t.Fatalf("type %v", k)
	}
	s = f.streams("acme", "", "p2", "p3")[0]
	if k := s.Types[0]; s.Protocol != "delta" || k.Acked != x.versions["x"] {
		t.Fatalf("stream %v", s)
	}
	if n := len(f.streams("acme", "web")) + len(f.streams("acme", "", "p1")); n != 0 {
		t.Fatalf("%d streams of others", n)
	}
	if n := f.server.Streams(); n != 2 {
		t.Fatalf("%d streams", n)
	}
	for name, want := range map[string]float64{
		"ecp_xds_streams": 2, "ecp_xds_pushes_total": 2, "ecp_xds_acks_total": 2,
		"ecp_xds_rejections_total": 0, "ecp_xds_push_to_ack_seconds": 2,
	} {
		if got := f.metric(name); got != want {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
}
