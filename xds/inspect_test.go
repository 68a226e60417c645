package xds

import (
	"context"
	"strings"
	"testing"

	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

func (f *fixture) ask(q *fsmpb.Query) *fsmpb.Answer {
	f.t.Helper()
	a, err := f.server.Answer(context.Background(), q)
	check(f.t, err)
	return a
}

// configOf returns what p1's one stream tells of a type, "a SYNCED 3>3>3"
// for name, status and what it should have, was sent and has, as log indexes.
func (f *fixture) configOf(url string) string {
	f.t.Helper()
	a := f.ask(&fsmpb.Query{Query: &fsmpb.Query_Config{Config: &fsmpb.ConfigQuery{Tenant: "default", Proxies: []string{"p1"}}}})
	if len(a.GetConfig().GetStreams()) != 1 {
		return "" // it has yet to begin
	}
	index := func(version string) string { i, _, _ := strings.Cut(version, "-"); return i }
	var out []string
	for _, t := range a.GetConfig().Streams[0].Types {
		if t.TypeUrl != url {
			continue
		}
		for _, r := range t.Resources {
			text := r.Name + " " + r.Status.String() + " " + index(r.Should) + ">" + index(r.Sent) + ">" + index(r.Acked)
			if r.Status == fsmpb.ResourceConfig_REJECTED {
				text += " !" + index(r.Rejected) + " " + t.RejectedDetail
			}
			out = append(out, text)
		}
	}
	return strings.Join(out, ", ")
}

func (f *fixture) wantConfig(url, want string) {
	f.t.Helper()
	var got string
	defer func() {
		if f.t.Failed() {
			f.t.Errorf("config %q, want %q", got, want)
		}
	}()
	eventually(f.t, "the config", func() bool { got = f.configOf(url); return got == want })
}

func TestConfigOfEachResource(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		c := f.connect(method)
		c.ask(fsm.TypeRoute, "r")
		f.wantConfig(fsm.TypeRoute, "r NOT_SENT >>") // there is no fleet
		f.replace(cluster(t, "a", 1), cluster(t, "b", 1))
		at := sprintf("%d", f.current().Index())
		if c.delta {
			c.ack(c.want("route -r"))
		}
		f.wantConfig(fsm.TypeRoute, "r ABSENT >>")
		c.ask(fsm.TypeCluster)
		r := c.want("cluster a b")
		f.wantConfig(fsm.TypeCluster, sprintf("a PENDING %[1]s>%[1]s>, b PENDING %[1]s>%[1]s>", at))
		c.ack(r)
		f.wantConfig(fsm.TypeCluster, sprintf("a SYNCED %[1]s>%[1]s>%[1]s, b SYNCED %[1]s>%[1]s>%[1]s", at))

		// b is rejected; what it has and what it should have are told apart.
		f.replace(cluster(t, "a", 1), cluster(t, "b", 2))
		next := sprintf("%d", f.current().Index())
		c.nack(c.want(c.pick("cluster a b", "cluster b")), "b is bad")
		f.wantConfig(fsm.TypeCluster,
			sprintf("a SYNCED %[1]s>%[1]s>%[1]s, b REJECTED %[2]s>%[2]s>%[1]s !%[2]s b is bad", at, next))

		// A removal waits behind the rejection, an addition is on its way.
		f.replace(cluster(t, "b", 2), cluster(t, "c", 1))
		last := sprintf("%d", f.current().Index())
		c.want(c.pick("cluster a b c", "cluster c"))
		if c.delta {
			f.wantConfig(fsm.TypeCluster, sprintf(
				"a NOT_SENT >%[1]s>%[1]s, b REJECTED %[2]s>%[2]s>%[1]s !%[2]s b is bad, c PENDING %[3]s>%[3]s>", at, next, last))
		} else {
			f.wantConfig(fsm.TypeCluster, sprintf(
				"a NOT_SENT >%[1]s>%[1]s, b PENDING %[2]s>%[2]s>%[1]s, c PENDING %[3]s>%[3]s>", at, next, last))
		}
	})
}

// A proxy that comes back has what it says, before anything is sent.
func TestConfigOfAReturningProxy(t *testing.T) {
	f := newFixture(t)
	f.endpoints("a", 1)
	f.replace(cluster(t, "a", 1))
	c := f.connect(adsDelta)
	c.ask(fsm.TypeCluster)
	version := c.accept("cluster a").versions["a"]
	at, _, _ := strings.Cut(version, "-") // registrations have indexes as well
	c.close()
	eventually(t, "the stream has ended", func() bool { return f.server.Streams() == 0 })
	c = f.connect(adsDelta)
	c.resume(fsm.TypeCluster, map[string]string{"a": version})
	f.wantConfig(fsm.TypeCluster, sprintf("a SYNCED %[1]s>%[1]s>%[1]s", at))
	c.resume(fsm.TypeEndpoints, map[string]string{"a": "1-0011223344556677"}, "a")
	c.next()
	e, _ := f.current().Endpoints("default", "a")
	f.wantConfig(fsm.TypeEndpoints, sprintf("a PENDING %[1]d>%[1]d>1", e.Index))
}

func TestConfigIsBounded(t *testing.T) {
	f := newFixture(t)
	f.replace(cluster(t, "a", 1), cluster(t, "b", 1))
	c := f.connect(adsDelta)
	c.ask(fsm.TypeCluster)
	c.accept("cluster a b")
	q := &fsmpb.ConfigQuery{Tenant: "default", Proxies: []string{"p1"}, Limit: 2}
	ask := func() *fsmpb.ConfigAnswer {
		return f.ask(&fsmpb.Query{Query: &fsmpb.Query_Config{Config: q}}).GetConfig()
	}
	if a := ask(); a.Truncated || len(a.Streams) != 1 {
		t.Fatalf("two resources: %v", a)
	}
	q.Limit = 1
	if a := ask(); !a.Truncated {
		t.Fatalf("beyond the limit: %v", a)
	}
	q.Tenant = "acme"
	if a := ask(); len(a.Streams) != 0 {
		t.Fatalf("another tenant's: %v", a)
	}
}

func (f *fixture) retry(url string) uint32 {
	f.t.Helper()
	return f.ask(&fsmpb.Query{Query: &fsmpb.Query_Retry{Retry: &fsmpb.RetryQuery{
		Tenant: "default", Proxy: "p1", TypeUrl: url,
	}}}).GetRetry().GetRetried()
}

// What a proxy rejected is sent once more when an operator asks, and once
// only.
func TestRetryOnRequest(t *testing.T) {
	both(t, func(t *testing.T, method string) {
		f := newFixture(t)
		f.replace(cluster(t, "a", 1))
		f.endpoints("a", 1)
		c := f.connect(method)
		c.ask(fsm.TypeCluster)
		c.accept("cluster a")
		c.ask(fsm.TypeEndpoints, "a")
		c.accept("endpoints a")
		rev := f.replace(cluster(t, "a", 2))
		c.nack(c.want("cluster a"), "no")
		c.want("endpoints a") // goes with its cluster
		f.wantSync("p1", rev, "REJECTED", rev-1)
		if n := f.retry(fsm.TypeListener); n != 0 {
			t.Fatalf("%d responses of another type", n)
		}
		if n := f.retry(""); n != 1 {
			t.Fatalf("%d responses", n)
		}
		c.nack(c.want("cluster a"), "still no")
		c.quiet()
		if n := f.retry(fsm.TypeCluster); n != 1 {
			t.Fatalf("%d responses of the type", n)
		}
		c.accept("cluster a")
		f.wantSync("p1", rev, "SYNCED", rev)
		eventually(t, "the state knows", func() bool { return len(f.proxy("p1").GetRejections()) == 0 })
		if n := f.retry(""); n != 0 {
			t.Fatalf("%d responses with nothing rejected", n)
		}
		if n := f.metric("ecp_xds_rejections_total", "cluster"); n != 2 {
			t.Fatalf("%v rejections", n)
		}
	})
}
