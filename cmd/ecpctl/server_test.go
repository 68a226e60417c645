package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/yaml"

	"github.com/org/envoy-control-plane/api"
	"github.com/org/envoy-control-plane/api/apitest"
	"github.com/org/envoy-control-plane/api/openapi/checker"
	"github.com/org/envoy-control-plane/api/resource"
	"github.com/org/envoy-control-plane/api/wire"
	"github.com/org/envoy-control-plane/cmd/envoy-control-plane/keyring"
	"github.com/org/envoy-control-plane/deploy/examples"
	"github.com/org/envoy-control-plane/fsm"
	"github.com/org/envoy-control-plane/fsm/fsmpb"
)

// lonely is a cluster whose proxies are said to be where proxies has them.
type lonely struct {
	*apitest.Cluster
	// demoted: cp-0 does not vote; loyal: it does, whatever it is told.
	demoted, loyal atomic.Bool

	mu      sync.Mutex
	proxies []*fsmpb.ProxySync
	config  *fsmpb.ConfigAnswer
}

func (l *lonely) Gather(_ context.Context, q *fsmpb.Query) ([]*fsmpb.Answer, map[string]error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case q.GetConfig() != nil:
		return []*fsmpb.Answer{{Node: "cp-0", Answer: &fsmpb.Answer_Config{Config: l.config}}}, nil
	case q.GetRetry() != nil:
		return []*fsmpb.Answer{{Node: "cp-0", Answer: &fsmpb.Answer_Retry{Retry: &fsmpb.RetryAnswer{Retried: 2}}}},
			map[string]error{"cp-1": errors.New("no answer")}
	case q.GetFleet() == nil:
		return nil, nil
	}
	return []*fsmpb.Answer{{Answer: &fsmpb.Answer_Fleet{Fleet: &fsmpb.FleetAnswer{Proxies: l.proxies}}}}, nil
}

func (l *lonely) Report(context.Context) (*fsmpb.ClusterReport, error) {
	return &fsmpb.ClusterReport{
		ClusterId: "c1", Epoch: "e1", Leader: "cp-0", Plan: "one more node is missing for 3 voters", Term: 2, Index: l.State().Index(),
		Archive: &fsmpb.ArchiveReport{RetentionMs: 86_400_000, MonthsAhead: 3, LastError: "out of connections", LastErrorAt: 1e18},
		Backup: &fsmpb.BackupReport{
			State: fsmpb.BackupReport_FAILING, Reason: "no space left", Target: "s3://backups/", Name: "ecp-c1-x.snap", At: 1e18, Index: 4, Bytes: 99,
		},
		Nodes: []*fsmpb.NodeReport{
			{
				Id: "cp-0", Address: "cp-0:7000", Voter: !l.demoted.Load(), Leader: true, Healthy: true, Applied: 5, Streams: 2,
				Build: "v1", XdsAddress: "cp-0:18000",
			},
			{Id: "cp-1", Address: "cp-1:7000", Zone: "b", Reason: "no heartbeat", XdsAddress: "cp-1:18000"},
		},
	}, nil
}

func (l *lonely) SetVoting(_ context.Context, _ string, willing bool) error {
	l.demoted.Store(!willing && !l.loyal.Load())
	return nil
}

func (l *lonely) LeaderID() string { return "cp-0" }

func (l *lonely) NodeID() string { return "cp-0" }

// startAPI serves the API itself. Every exchange is held against the OpenAPI
// document.
func startAPI(t *testing.T, secret string) (string, *lonely) {
	t.Helper()
	c, err := apitest.NewCluster()
	if err != nil {
		t.Fatal(err)
	}
	l := &lonely{Cluster: c}
	keys, err := keyring.Parse([]byte(base64.StdEncoding.EncodeToString(make([]byte, keyring.KeyBytes))))
	if err != nil {
		t.Fatal(err)
	}
	server, err := api.New(api.Config{Version: "v1", Commit: "abc", JWTSecret: []byte(secret)}, api.Deps{
		Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Cluster: l, Resources: resource.New(), Secrets: keys,
		Archived: apitest.Shelf{},
	})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := checker.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(doc.Handler(server.Handler(), func(err error) { t.Error(err) }))
	t.Cleanup(s.Close)
	return s.URL, l
}

// quickstart is the sample fleet: a listener, a route, a cluster and its
// endpoints.
func quickstart(t *testing.T) string {
	t.Helper()
	text, err := examples.Quickstart()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestATour is what an operator does, against the API itself.
func TestATour(t *testing.T) {
	s, _ := startAPI(t, "")
	quickstart := quickstart(t)
	ecpctl(t, s, quickstart, "apply", "-f", "-", "--fleet", "edge", "-m", "first").exits(exitDone).
		prints("fleet edge created", "endpoints web put", "fleet edge: revision 1, 3 changes", "  added  cluster   web")
	ecpctl(t, s, quickstart, "apply", "-f", "-", "--fleet", "edge").exits(exitDone).
		prints("endpoints web: no difference", "fleet edge: no difference, revision 1 stays")

	changed := strings.Replace(quickstart, "connect_timeout: 1s", "connect_timeout: 2s", 1)
	ecpctl(t, s, changed, "diff", "-f", "-", "--fleet", "edge").exits(exitDone).
		prints("updated cluster web", "  -connect_timeout: 1s", "  +connect_timeout: 2s")
	ecpctl(t, s, changed, "apply", "-f", "-", "--fleet", "edge", "-m", "slower", "--expect-revision", "1").exits(exitDone).
		prints("revision 2, 1 change")
	ecpctl(t, s, quickstart, "apply", "-f", "-", "--fleet", "edge", "--expect-revision", "1").exits(exitFailed).
		complains("ecpctl: revision_conflict: ")
	ecpctl(t, s, "", "diff", "--fleet", "edge").exits(exitDone).
		prints("fleet edge: 1 change from revision 1 to 2", "  +connect_timeout: 2s")
	ecpctl(t, s, "", "diff", "--fleet", "edge", "0", "1").exits(exitDone).prints("3 changes from revision 0 to 1")
	ecpctl(t, s, "", "rollback", "--fleet", "edge", "--to", "1", "--dry-run").exits(exitDone).prints("  +connect_timeout: 1s")
	ecpctl(t, s, "", "rollback", "--fleet", "edge", "--to", "1", "--wait").exits(exitDone).
		prints("fleet edge: revision 3, 1 change", "no proxy is connected")
	ecpctl(t, s, "", "rollback", "--fleet", "edge", "--to", "9").exits(exitFailed).complains("revision_not_found")

	ecpctl(t, s, "", "get", "fleets").exits(exitDone).prints("NAME  REVISION", "edge  3")
	ecpctl(t, s, "", "get", "revisions", "--fleet", "edge").exits(exitDone).prints("slower", "first", "rollback to 1")
	ecpctl(t, s, "", "get", "revisions", "--fleet", "edge", "2", "-o", "yaml").exits(exitDone).prints("message: slower")
	ecpctl(t, s, "", "get", "resources", "--fleet", "edge").exits(exitDone).prints("listener  edge")
	ecpctl(t, s, "", "get", "resources", "--fleet", "edge", "web").exits(exitDone).prints("cluster  web")
	ecpctl(t, s, "", "get", "resources", "--fleet", "edge", "gone").exits(exitFailed).complains("resource_not_found")
	r := ecpctl(t, s, "", "get", "resources", "--fleet", "edge", "--type", "cluster", "web", "--revision", "2", "-o", "json")
	if got := decode[wire.Resource](r.exits(exitDone)); !strings.Contains(string(got.Resource), `"2s"`) {
		t.Errorf("printed %s", r.out)
	}
	ecpctl(t, s, "", "history", "--fleet", "edge", "--kind", "revision_created", "--since", "1h").exits(exitDone).
		prints(`revision 2, 1 change, "slower"`).complains("there is no archive")
	r = ecpctl(t, s, "", "history", "--limit", "2", "-o", "json").exits(exitDone)
	if got := decode[wire.History](r); len(got.Items) != 2 || got.Next == "" {
		t.Errorf("printed %s", r.out)
	}

	password := "\"@type\": " + secretType + "\nname: db/password\ngeneric_secret: {secret: {inline_string: hunter2}}\n"
	ecpctl(t, s, password, "apply", "-f", "-", "--dry-run").exits(exitDone).prints("secret db/password would be put")
	ecpctl(t, s, password+"---\n"+quickstart, "apply", "-f", "-", "--fleet", "edge").exits(exitDone).prints("secret db/password put")
	ecpctl(t, s, password, "secrets", "put", "-f", "-").exits(exitDone).prints("secret db/password: no difference")
	ecpctl(t, s, quickstart, "secrets", "put", "-f", "-").exits(exitFailed).complains("is not a Secret")
	ecpctl(t, s, "", "secrets", "list").exits(exitDone).prints("db/password  generic_secret")
	r = ecpctl(t, s, "", "secrets", "get", "db/password", "-o", "json")
	if got := decode[wire.Secret](r.exits(exitDone)); got.Kind != "generic_secret" || strings.Contains(r.out, "hunter2") {
		t.Errorf("printed %s", r.out)
	}
	cert, key := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	for path, text := range map[string]string{cert: "no", key: "PEM"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ecpctl(t, s, "", "secrets", "put", "tls", "--cert", cert, "--key", key).exits(exitFailed).
		complains("secret tls: tls_certificate.certificate_chain: there is no certificate in PEM")
	ecpctl(t, s, "", "secrets", "delete", "db/password").exits(exitDone).prints("secret db/password deleted")
	ecpctl(t, s, "", "secrets", "get", "db/password").exits(exitFailed).complains("secret_not_found")

	ecpctl(t, s, "", "endpoints", "put", "api/v1", "10.0.0.1:80", "[::1]:81").exits(exitDone).prints("endpoints api/v1 put")
	ecpctl(t, s, "", "endpoints", "get", "api/v1").exits(exitDone).prints("10.0.0.1:80", "[::1]:81")
	ecpctl(t, s, "", "endpoints", "list").exits(exitDone).prints("api/v1   2", "web      1")
	ecpctl(t, s, quickstart, "endpoints", "put", "-f", "-").exits(exitFailed).complains("is not a ClusterLoadAssignment")
	ecpctl(t, s, "", "endpoints", "delete", "api/v1").exits(exitDone).prints("endpoints of api/v1 deleted")
	ecpctl(t, s, "", "endpoints", "delete", "api/v1").exits(exitFailed).complains("endpoints_not_found")

	ecpctl(t, s, "", "delete", "resource", "--fleet", "edge", "listener", "edge").exits(exitFailed).complains("would_empty", "--force")
	ecpctl(t, s, "", "delete", "resource", "--fleet", "edge", "listener", "edge", "--force").exits(exitDone).
		prints("fleet edge: revision 4, 1 change", "removed  listener  edge")
	ecpctl(t, s, "", "delete", "fleet", "edge").exits(exitDone).prints("fleet edge deleted")
	ecpctl(t, s, "", "delete", "proxy", "p").exits(exitFailed).complains("proxy_not_found")
	ecpctl(t, s, quickstart, "--tenant", "acme", "apply", "-f", "-", "--fleet", "edge").exits(exitFailed).
		complains("tenant_not_found")
	ecpctl(t, s, "", "create", "tenant", "acme", "--label", "plan=gold").exits(exitDone).prints("tenant acme put")
	ecpctl(t, s, "", "create", "tenant", "acme", "--label", "plan=gold").exits(exitDone).prints("tenant acme is as it was")
	ecpctl(t, s, "", "get", "tenants").exits(exitDone).prints("acme     plan=gold", "default  -")
	ecpctl(t, s, "", "--tenant", "acme", "create", "fleet", "mesh", "--revision-history-limit", "7").exits(exitDone)
	ecpctl(t, s, "", "--tenant", "acme", "get", "fleets", "mesh", "-o", "yaml").exits(exitDone).prints("revision_history_limit: 7")

	ecpctl(t, s, "", "cluster").exits(exitDone).
		prints("cluster c1, leader cp-0, term 2", "membership: one more node is missing for 3 voters", "archive off",
			"backups failing, to s3://backups/, last 2001-09-09T01:46:40Z, index 4, 99 bytes: no space left", "cp-0", "unhealthy: no heartbeat")
	ecpctl(t, s, "", "cluster", "transfer").exits(exitDone).prints("the leader is cp-0")
	ecpctl(t, s, "", "cluster", "remove", "cp-1").exits(exitDone).prints("node cp-1 removed")
	ecpctl(t, s, "", "cluster", "read-only").exits(exitDone).prints("writes are allowed")
	ecpctl(t, s, "", "cluster", "read-only", "on", "-m", "a move").exits(exitDone).prints("read-only since 20", "Z by anonymous: a move (index ")
	ecpctl(t, s, "", "cluster").exits(exitDone).prints("read-only since 20", "by anonymous: a move (index ")
	ecpctl(t, s, "", "--timeout", "1m", "create", "tenant", "late").exits(exitFailed).
		complains("read_only: the cluster is read-only since 20", "by anonymous: a move", "ecpctl cluster read-only off")
	ecpctl(t, s, "", "cluster", "read-only", "off").exits(exitDone).prints("writes are allowed")
	ecpctl(t, s, "", "create", "tenant", "late").exits(exitDone)
	ecpctl(t, s, "", "cluster", "finalize").exits(exitDone).prints(fmt.Sprintf("feature level %d (index ", fsm.SupportedLevel))
	ecpctl(t, s, "", "version").exits(exitDone).prints("node", "abc")
	ecpctl(t, "http://127.0.0.1:1,"+s, "", "--strong", "get", "fleets").exits(exitDone)
}

// TestMistakesOfTheAPIAreFoundInTheFiles: nothing is stored, and every
// mistake has its file, document and path.
func TestMistakesOfTheAPIAreFoundInTheFiles(t *testing.T) {
	s, _ := startAPI(t, "")
	listener := `"@type": type.googleapis.com/envoy.config.listener.v3.Listener
name: http
filter_chains:
- filters:
  - name: hcm
    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefx: x}
`
	dir := write(t, map[string]string{
		"listener.yaml":  listener,
		"cluster.yaml":   "\"@type\": " + clusterType + "\nname: web\n---\n\"@type\": type.googleapis.com/x.Y\n",
		"endpoints.yaml": "\"@type\": " + assignmentType + "\ncluster_name: web\nendpoint: []\n",
	})
	at := func(name string) string { return filepath.Join(dir, name) }
	ecpctl(t, s, "", "apply", "-f", dir, "--fleet", "edge").exits(exitFailed).complains(
		"\n  "+at("cluster.yaml")+" (document 2): @type: ",
		"\n  "+at("listener.yaml")+" (document 1): filter_chains[0].filters[0].typed_config.stat_prefx: ",
	)
	ecpctl(t, s, "", "apply", "-f", at("endpoints.yaml")).exits(exitFailed).
		complains(at("endpoints.yaml") + " (document 1): endpoint: ")
	ecpctl(t, s, "", "get", "resources", "--fleet", "edge", "-o", "json").exits(exitDone).prints(`"items": []`)
	ecpctl(t, s, "", "endpoints", "list", "-o", "json").exits(exitDone).prints(`"items": []`)
}

// TestWhatGetPrintsCanBeApplied also for resources that need a wrapper.
func TestWhatGetPrintsCanBeApplied(t *testing.T) {
	s, _ := startAPI(t, "")
	in := quickstart(t) + `---
"@type": ` + wrapperType + `
name: main/all
resource: {"@type": type.googleapis.com/envoy.config.route.v3.VirtualHost, name: all, domains: [example.com]}
---
"@type": type.googleapis.com/envoy.config.route.v3.VirtualHost
route_config: main
name: more
domains: [example.org]
---
# without @type
name: layer
ttl: 30s
resource: {"@type": type.googleapis.com/envoy.service.runtime.v3.Runtime, name: layer, layer: {a: 1, b: 2.5}}
`
	ecpctl(t, s, in, "apply", "-f", "-", "--fleet", "edge").exits(exitDone)
	for _, format := range []string{"yaml", "json"} {
		all := ecpctl(t, s, "", "get", "resources", "--fleet", "edge", "-o", format).exits(exitDone)
		ecpctl(t, s, all.out, "apply", "-f", "-", "--fleet", "edge", "--prune").exits(exitDone).prints("no difference")
		one := ecpctl(t, s, "", "get", "resources", "--fleet", "edge", "--type", "virtual_host", "main/all", "-o", format)
		ecpctl(t, s, one.exits(exitDone).out, "apply", "-f", "-", "--fleet", "edge").exits(exitDone).prints("no difference")
		services := ecpctl(t, s, "", "endpoints", "list", "-o", format).exits(exitDone)
		ecpctl(t, s, services.out, "apply", "-f", "-").exits(exitDone).prints("endpoints web: no difference")
	}
}

func TestProxies(t *testing.T) {
	s, l := startAPI(t, "")
	quickstart := quickstart(t)
	ecpctl(t, s, quickstart, "apply", "-f", "-", "--fleet", "edge").exits(exitDone)
	report := &fsmpb.ProxyReport{
		Tenant: "default", Id: "edge-1", Stream: 1, Report: &fsmpb.ProxyReport_Connected_{Connected: &fsmpb.ProxyReport_Connected{
			Fleet: "edge", Peer: "10.0.0.9:1", Protocol: "delta", Build: "1.40.0", Labels: map[string]string{"stage": "canary"},
		}},
	}
	if _, err := l.Propose(t.Context(), &fsmpb.Command{Op: &fsmpb.Command_ReportProxies{ReportProxies: &fsmpb.ReportProxies{
		Node: "cp-0", NodeStart: 1, Batch: 1, Reports: []*fsmpb.ProxyReport{report},
	}}}); err != nil {
		t.Fatal(err)
	}
	ecpctl(t, s, "", "proxies").exits(exitDone).prints("ID      FLEET", "edge-1  edge   connected", "cp-0", "1.40.0")
	ecpctl(t, s, "", "proxies", "--fleet", "edge", "--status", "disconnected").exits(exitDone)
	ecpctl(t, s, "", "proxies", "edge-1").exits(exitDone).
		prints("Proxy:", "stage=canary", "TYPE  SENT", "NODE  PEER        PROTOCOL", "cp-0  10.0.0.9:1")
	ecpctl(t, s, "", "proxies", "edge-2").exits(exitFailed).complains("proxy_not_found")
	ecpctl(t, s, "", "delete", "proxy", "edge-1").exits(exitFailed).complains("proxy_connected")
	ecpctl(t, s, "", "delete", "fleet", "edge").exits(exitFailed).complains("fleet_has_proxies")

	ecpctl(t, s, "", "proxies", "config", "edge-1").exits(exitDone).
		prints("proxy edge-1 of fleet edge, connected; the fleet is at revision 1", "TYPE ", "endpoints  web", "unknown")
	l.config = &fsmpb.ConfigAnswer{Streams: []*fsmpb.StreamConfig{{
		Stream: &fsmpb.StreamReport{Peer: "10.0.0.9:1", Protocol: "delta", Revision: 1, WaitingFor: "cluster"},
		Types: []*fsmpb.TypeConfig{{
			TypeUrl: fsm.TypeCluster, Wildcard: true, RejectedDetail: "no such filter", Resources: []*fsmpb.ResourceConfig{
				{Name: "api", Status: fsmpb.ResourceConfig_NOT_SENT, Should: "9-aa"},
				{Name: "web", Status: fsmpb.ResourceConfig_REJECTED, Should: "9-bb", Acked: "7-cc", Rejected: "9-bb"},
			},
		}},
	}}}
	ecpctl(t, s, "", "proxies", "config", "edge-1").exits(exitDone).prints(
		"node cp-0, delta from 10.0.0.9:1", "at revision 1, waits for cluster",
		"TYPE     NAME  SHOULD  HAS   STATUS\ncluster  api   9-aa    -     not_sent\ncluster  web   9-bb    7-cc  rejected\n",
		"Envoy rejects cluster: no such filter")
	ecpctl(t, s, "", "proxies", "retry", "edge-1", "--type", "cluster", "-o", "table").exits(exitDone).
		prints("2 rejected responses sent again").complains("node cp-1 does not answer")

	say := func(state fsmpb.ProxySync_State) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.proxies = []*fsmpb.ProxySync{{
			Proxy: "edge-1", State: state, Revision: 1, WaitingFor: "listener",
			RejectedType: fsm.TypeListener, RejectedDetail: "Didn't find a registered implementation",
		}}
	}
	slower := func(to string) string {
		return strings.Replace(quickstart, "connect_timeout: 1s", "connect_timeout: "+to, 1)
	}
	apply := []string{"apply", "-f", "-", "--fleet", "edge", "--wait=400ms"}
	say(fsmpb.ProxySync_SYNCED)
	ecpctl(t, s, slower("2s"), apply...).exits(exitDone).prints("revision 2: 1 connected proxy, all synced")
	say(fsmpb.ProxySync_PENDING)
	start := time.Now()
	ecpctl(t, s, slower("3s"), apply...).exits(exitWait).prints("edge-1  pending  -     has revision 1, waiting for listener")
	if took := time.Since(start); took < 400*time.Millisecond {
		t.Errorf("it waited for %v only", took)
	}
	say(fsmpb.ProxySync_REJECTED)
	ecpctl(t, s, slower("4s"), apply...).exits(exitRejected).
		prints("edge-1  rejected  listener  Didn't find a registered implementation").complains("1 proxy rejects revision 4")
	ecpctl(t, s, "", "rollback", "--fleet", "edge", "--to", "1", "--wait=1s", "-o", "json").exits(exitRejected)
}

func TestProxyDetailHasARowForEachType(t *testing.T) {
	s := newCanned(t)
	at := time.Date(2026, 11, 24, 10, 0, 0, 0, time.FixedZone("", 3600))
	s.on("GET /tenants/default/proxies/edge-1", 200, wire.Proxy{
		ID: "edge-1", Sync: wire.SyncPending, WaitingFor: "route", DuplicateID: true, FirstSeen: at,
		Locality: &wire.Locality{Region: "eu", Zone: "eu-1a"},
		Streams:  []wire.Stream{{Node: "cp-0", Peer: "p", Protocol: "delta", Types: []string{"cluster", "listener"}}},
		Types: map[string]wire.TypeStatus{
			"listener": {Sent: "9-bb", Acked: "7-aa", Rejected: &wire.Rejected{Version: "9-bb", Detail: "no filter", At: at}},
			"cluster":  {Sent: "9-cc", Acked: "9-cc"},
		},
	})
	ecpctl(t, s.url, "", "proxies", "edge-1").exits(exitDone).prints(
		"pending, waiting for route", "eu/eu-1a", "two peers use this id", "2026-11-24T09:00:00Z",
		"TYPE      SENT  ACKED  REJECTED  AT\ncluster   9-cc  9-cc   -         -\nlistener  9-bb  7-aa   9-bb      2026-11-24T09:00:00Z\n",
		"\nEnvoy rejects listener: no filter\n", "delta     cluster,listener",
	)
}

func TestDemote(t *testing.T) {
	s, l := startAPI(t, "")
	// cp-1 is silent and does not vote anyway.
	ecpctl(t, s, "", "cluster", "demote", "cp-1", "--wait").exits(exitDone).prints("no node to demote")
	ecpctl(t, s, "", "cluster", "demote", "cp-0", "cp-3").exits(exitFailed).complains("node_not_found", "cp-3")
	ecpctl(t, s, "", "cluster", "promote", "cp-0").exits(exitDone).prints("node cp-0 may vote again")
	ecpctl(t, s, "", "cluster", "demote", "cp-0", "cp-3", "--ignore-not-found", "--wait").exits(exitDone).prints("node cp-0 gives its vote up")
	ecpctl(t, s, "", "cluster", "promote", "cp-0").exits(exitDone)
	l.loyal.Store(true)
	ecpctl(t, s, "", "cluster", "demote", "cp-0", "--wait=300ms").exits(exitWait).complains("cp-0 votes after 300ms", "one more node is missing")
}

func TestTokensOpenTheAPI(t *testing.T) {
	const secret = "0123456789abcdef0123456789abcdef"
	s, _ := startAPI(t, secret)
	ecpctl(t, s, "", "get", "fleets").exits(exitFailed).complains("unauthenticated", "ECP_TOKEN")
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	token := func(args ...string) string {
		r := ecpctl(t, s, "", append([]string{"token", "create", "--secret-file", file, "--subject", "alice"}, args...)...).exits(exitDone)
		if r.stderr != "" {
			t.Errorf("said %s", r.stderr)
		}
		return strings.TrimSpace(r.out)
	}
	admin := token("--role", "admin")
	ecpctl(t, s, "", "--token", admin, "create", "tenant", "acme").exits(exitDone)
	bound := token("--role", "admin", "--tenant", "acme")
	ecpctl(t, s, "", "--token", bound, "--tenant", "acme", "create", "fleet", "edge").exits(exitDone)
	ecpctl(t, s, "", "--token", bound, "create", "tenant", "other").exits(exitFailed).complains("forbidden")
	viewer := token("--role", "viewer")
	ecpctl(t, s, "", "--token", viewer, "get", "fleets").exits(exitDone)
	ecpctl(t, s, "", "--token", viewer, "create", "fleet", "edge").exits(exitFailed).complains("forbidden")
	ecpctl(t, s, "", "--token", viewer, "--tenant", "acme", "get", "fleets").exits(exitFailed).complains("forbidden")
	kept := filepath.Join(t.TempDir(), "token")
	if said := token("--role", "viewer", "--to", kept); said != "" {
		t.Errorf("printed %s", said)
	}
	ecpctl(t, s, "", "--token-file", kept, "get", "fleets").exits(exitDone)
	ecpctl(t, s, "", "--token-file", kept+"x", "get", "fleets").exits(exitUsage).complains("--token-file")
	ecpctl(t, s, "", "--token-file", kept, "--token", admin, "get", "fleets").exits(exitUsage).complains("either --token or --token-file")
	all := token("--role", "viewer", "--all-tenants")
	ecpctl(t, s, "", "--token", all, "--tenant", "acme", "history").exits(exitDone).prints("alice")

	t.Setenv("JWT_SECRET", "short")
	r := ecpctl(t, "", "", "token", "create", "--subject", "a", "--role", "viewer", "-o", "json").exits(exitDone)
	if got := decode[map[string]string](r); got["tenant"] != "default" || got["expires"] == "" {
		t.Errorf("printed %s", r.out)
	}
	r.complains("the secret has 5 bytes")
}

func TestBootstrap(t *testing.T) {
	s, _ := startAPI(t, "")
	r := ecpctl(t, s, "", "--tenant", "acme", "bootstrap", "edge-1", "--fleet", "edge", "--zone", "z", "--label", "a=b").exits(exitDone)
	var got struct {
		Node struct {
			ID, Cluster string
			Metadata    struct{ Tenant string }
		}
	}
	if err := yaml.Unmarshal([]byte(r.out), &got); err != nil {
		t.Fatal(err)
	}
	if got.Node.ID != "edge-1" || got.Node.Cluster != "edge" || got.Node.Metadata.Tenant != "acme" {
		t.Errorf("node is %+v", got.Node)
	}
	r.prints("address: cp-0", "address: cp-1", "DELTA_GRPC")
	r = ecpctl(t, "http://127.0.0.1:1", "", "bootstrap", "p", "--fleet", "f", "--xds", "cp:1", "--sotw", "-o", "json").exits(exitDone)
	decode[map[string]any](r)
	if strings.Contains(r.out, "stats") {
		t.Errorf("sends metrics: %s", r.out)
	}
	ecpctl(t, s, "", "bootstrap", "p", "--fleet", "f", "--metrics-interval", "10s").exits(exitDone).
		prints("stats_flush_interval: 10s", "envoy.stat_sinks.metrics_service", "emit_tags_as_labels: true")
	if strings.Contains(r.out, "tenant") || strings.Contains(r.out, "DELTA_GRPC") {
		t.Errorf("printed %s", r.out)
	}
}
