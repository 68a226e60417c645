package main

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/org/envoy-control-plane/api/wire"
)

const clusterType = typePrefix + "envoy.config.cluster.v3.Cluster"

// fleetEdge answers what apply asks of a fleet that is there.
func fleetEdge(s *canned) {
	s.on("GET /tenants/default/fleets/edge", 200, wire.Fleet{Name: "edge", Revision: 12})
	s.on("POST /tenants/default/fleets/edge/changes", 201, wire.Changed{
		Revision: 13, Index: 40, Changed: []wire.Change{{Op: wire.OpAdded, Type: "cluster", Name: "web"}},
	})
}

func changeSetOf(t *testing.T, s *canned) (set struct {
	wire.ChangeSet
	Names []string
},
) {
	t.Helper()
	body := s.body("POST /tenants/default/fleets/edge/changes")
	if err := json.Unmarshal([]byte(body), &set.ChangeSet); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	for _, raw := range set.Upsert {
		var m struct{ Name string }
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		set.Names = append(set.Names, m.Name)
	}
	return set
}

func TestApplySendsEverythingWhereItBelongs(t *testing.T) {
	s := newCanned(t)
	fleetEdge(s)
	created := false
	s.onFunc("GET /tenants/default/fleets/edge", func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		if !created {
			problem(w, wire.CodeFleetNotFound)
			return
		}
		reply(w, 200, wire.Fleet{Name: "edge"})
	})
	s.onFunc("PUT /tenants/default/fleets/edge", func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		created = true
		reply(w, 201, wire.FleetWritten{Name: "edge"})
	})
	s.on("PUT /tenants/default/endpoints/a%2Fb", 201, wire.EndpointsWritten{Service: "a/b"})
	dir := write(t, map[string]string{
		"b.yaml": "# only a comment\n---\n\"@type\": " + clusterType + "\nname: b1\n---\n---\n" +
			"- {\"@type\": " + clusterType + ", name: b2}\n- {\"@type\": " + clusterType + ", name: b3}\n",
		"a.json":         `{"@type": "` + clusterType + `", "name": "a1"}` + "\n" + `[{"@type": "` + clusterType + `", "name": "a2"}]`,
		"c.yml":          "items:\n- {\"@type\": " + assignmentType + ", cluster_name: a/b}\n",
		"notes.txt":      "not read",
		".hidden.yaml":   "not: read",
		"sub/inner.yaml": "not: read",
	})
	extra := `{"@type": "` + clusterType + `", "name": "in"}`
	r := ecpctl(t, s.url, extra, "apply", "-f", dir, "-f", "-", "--fleet", "edge", "-m", "why", "--expect-revision", "0").exits(exitDone)
	r.prints("fleet edge created\n", "endpoints a/b put\n", "fleet edge: revision 13, 1 change\n", "  added  cluster  web\n")
	want := strings.Join([]string{
		"GET /tenants/default/fleets/edge", "PUT /tenants/default/fleets/edge",
		"POST /tenants/default/fleets/edge/changes", // the trial
		"PUT /tenants/default/endpoints/a%2Fb", "POST /tenants/default/fleets/edge/changes",
	}, "\n")
	if s.order() != want {
		t.Errorf("asked\n%s\nwant\n%s", s.order(), want)
	}
	set := changeSetOf(t, s)
	if got := strings.Join(set.Names, " "); got != "a1 a2 b1 b2 b3 in" {
		t.Errorf("sent %s", got)
	}
	if set.Message != "why" || set.ExpectRevision == nil || *set.ExpectRevision != 0 || set.Mode != "" {
		t.Errorf("sent %+v", set.ChangeSet)
	}
	if got := s.body("PUT /tenants/default/endpoints/a%2Fb"); !strings.Contains(got, `"cluster_name":"a/b"`) {
		t.Errorf("sent the endpoints %s", got)
	}
}

func TestApplyLeavesEndpointsAloneWhenTheRestIsRefused(t *testing.T) {
	s := newCanned(t)
	fleetEdge(s)
	s.onFunc("POST /tenants/default/fleets/edge/changes", func(w http.ResponseWriter, r *http.Request, _ []byte) {
		if r.URL.Query().Get("dry_run") != "true" {
			t.Error("it was not tried first")
		}
		problem(w, wire.CodeInvalidResource, wire.FieldError{Path: "upsert[0].name", Detail: "too short"})
	})
	in := "{\"@type\": " + assignmentType + ", cluster_name: web}\n---\n{\"@type\": " + clusterType + "}\n"
	ecpctl(t, s.url, in, "apply", "-f", "-", "--fleet", "edge").exits(exitFailed).complains("stdin (document 2): name: too short")
	if strings.Contains(s.order(), "endpoints") {
		t.Errorf("asked\n%s", s.order())
	}
}

func TestMistakesAreFoundInTheFiles(t *testing.T) {
	s := newCanned(t)
	fleetEdge(s)
	s.onFunc("POST /tenants/default/fleets/edge/changes", func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		problem(
			w, wire.CodeInvalid,
			wire.FieldError{Path: "upsert[2].filter_chains[0].name", Detail: "unknown field"},
			wire.FieldError{Path: "upsert[0]", Detail: "no name"},
			wire.FieldError{Path: "upsert[1].x", Detail: "bad"},
			wire.FieldError{Path: "message", Detail: "too long"},
			wire.FieldError{Path: "upsert[99].x", Detail: "who knows"},
		)
	})
	dir := write(t, map[string]string{
		"a.yaml":        "[{\"@type\": one}, {\"@type\": two}]\n",
		"listener.yaml": "---\n\"@type\": z\n",
	})
	file := filepath.Join(dir, "listener.yaml")
	list := filepath.Join(dir, "a.yaml")
	ecpctl(t, s.url, "", "apply", "-f", dir, "--fleet", "edge").exits(exitFailed).complains(
		"ecpctl: invalid_argument: the body has a mistake; "+file+" (document 1): filter_chains[0].name: unknown field\n",
		"\n  "+file+" (document 1): filter_chains[0].name: unknown field\n",
		"\n  "+list+" (document 1, item 1): no name\n",
		"\n  "+list+" (document 1, item 2): x: bad\n",
		"\n  message: too long\n",
		"\n  upsert[99].x: who knows\n",
	)
}

func TestEveryFileThatCannotBeReadIsNamed(t *testing.T) {
	dir := write(t, map[string]string{
		"a.yaml":       "\"@type\": x\n---\nname: [\n",
		"b.json":       "{\"@type\": \"x\"}\n{\"@type\"\n",
		"c.yaml":       "name: no type\n",
		"d.yaml":       "just words\n",
		"e.yaml":       "a: 1\na: 2\n",
		"empty/x.txt":  "",
		"f/inner.yaml": "\"@type\": " + assignmentType + "\n",
	})
	r := ecpctl(t, "http://127.0.0.1:1", "", "apply", "-f", dir, "-f", filepath.Join(dir, "empty"),
		"-f", filepath.Join(dir, "gone"), "--fleet", "edge").exits(exitFailed)
	r.complains(
		"a.yaml (document 2): ", "yaml: line 3", "b.json (document 2), from line 2 on",
		"c.yaml (document 1): it has no @type", "d.yaml (document 1): it is not an object",
		"e.yaml (document 1)", "key \"a\" already set", "empty", "gone: no such file",
	)
	ecpctl(t, "http://127.0.0.1:1", "", "apply", "-R", "-f", filepath.Join(dir, "f"), "--fleet", "edge").
		exits(exitFailed).complains("inner.yaml (document 1): the ClusterLoadAssignment has no cluster_name")
	ecpctl(t, "http://127.0.0.1:1", "# nothing\n---\n", "apply", "-f", "-", "--fleet", "edge").
		exits(exitFailed).complains("no document in -")
	twice := strings.Repeat("---\n{\"@type\": "+assignmentType+", clusterName: web}\n", 2)
	ecpctl(t, "http://127.0.0.1:1", twice, "apply", "-f", "-").
		exits(exitFailed).complains(`stdin (document 2): stdin (document 1) has endpoints of "web" too`)
	ecpctl(t, "http://127.0.0.1:1", "\"@type\": x\n", "apply", "-f", "-").
		exits(exitUsage).complains("--fleet is needed: stdin (document 1) belongs to one")
}

func TestApplyOfEndpointsAloneNeedsNoFleet(t *testing.T) {
	s := newCanned(t)
	s.on("PUT /tenants/default/endpoints/web", 200, wire.EndpointsWritten{
		Service: "web", Unchanged: true, Warnings: []wire.FieldError{{Path: "endpoints[0]", Detail: "odd"}},
	})
	in := "{\"@type\": " + assignmentType + ", cluster_name: web}"
	ecpctl(t, s.url, in, "apply", "-f", "-", "--wait").exits(exitDone).
		prints("endpoints web: no difference").
		complains("warning: stdin (document 1): endpoints[0]: odd", "nothing to wait for")
}

func TestPruneReplaces(t *testing.T) {
	s := newCanned(t)
	fleetEdge(s)
	in := "\"@type\": " + clusterType + "\nname: web\n"
	ecpctl(t, s.url, in, "apply", "-f", "-", "--fleet", "edge", "--prune").exits(exitDone)
	if set := changeSetOf(t, s); set.Mode != wire.ModeReplace || set.ExpectRevision != nil {
		t.Errorf("sent %+v", set.ChangeSet)
	}
	s.onFunc("POST /tenants/default/fleets/edge/changes", func(w http.ResponseWriter, r *http.Request, _ []byte) {
		if r.URL.Query().Get("force") == "true" {
			reply(w, 200, wire.Changed{Revision: 13})
			return
		}
		problem(w, wire.CodeWouldEmpty)
	})
	ecpctl(t, s.url, in, "apply", "-f", "-", "--fleet", "edge", "--prune").exits(exitFailed).complains("would_empty", "--force")
	ecpctl(t, s.url, in, "apply", "-f", "-", "--fleet", "edge", "--prune", "--force").exits(exitDone).
		prints("no difference, revision 13 stays")
}

func TestApplyAsJSON(t *testing.T) {
	s := newCanned(t)
	fleetEdge(s)
	in := "\"@type\": " + clusterType + "\nname: web\n"
	r := ecpctl(t, s.url, in, "apply", "-f", "-", "--fleet", "edge", "-o", "json").exits(exitDone)
	if got := decode[applied](r); got.Change.Revision != 13 || got.Fleet != "edge" || got.Tenant != "default" {
		t.Errorf("printed %s", r.out)
	}
	// What was done before a refusal is told too.
	s.on("PUT /tenants/default/endpoints/web", 201, wire.EndpointsWritten{Service: "web"})
	n := 0
	s.onFunc("POST /tenants/default/fleets/edge/changes", func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		if n++; n == 1 {
			reply(w, 200, wire.Changed{DryRun: true})
			return
		}
		problem(w, wire.CodeRevisionConflict)
	})
	r = ecpctl(t, s.url, in+"---\n{\"@type\": "+assignmentType+", cluster_name: web}\n",
		"apply", "-f", "-", "--fleet", "edge", "-o", "json").exits(exitFailed).complains("revision_conflict")
	if got := decode[applied](r); len(got.Endpoints) != 1 || got.Change != nil {
		t.Errorf("printed %s", r.out)
	}
}

func TestWait(t *testing.T) {
	tests := []struct {
		name   string
		status wire.FleetStatus
		code   int
		prints []string
	}{
		{
			"all synced",
			wire.FleetStatus{Revision: 13, Converged: true, Proxies: wire.ProxyCounts{Connected: 2, Synced: 2}},
			exitDone,
			[]string{"revision 13: 2 connected proxies, all synced"},
		},
		{
			"nobody there",
			wire.FleetStatus{Revision: 13, Converged: true},
			exitDone,
			[]string{"revision 13: no proxy is connected"},
		},
		{
			"rejected",
			wire.FleetStatus{
				Revision: 13, Proxies: wire.ProxyCounts{Connected: 2, Synced: 1, Rejected: 1},
				Rejections: []wire.Rejection{{Proxy: "edge-1", Type: "listener", Detail: "no such\nfilter"}},
			},
			exitRejected,
			[]string{"1 of 2 connected proxies synced, 1 rejected, 0 pending", "edge-1  rejected  listener  no such filter"},
		},
		{
			"late",
			wire.FleetStatus{
				Revision: 13, Proxies: wire.ProxyCounts{Connected: 3, Pending: 3},
				Pending: []wire.PendingProxy{{Proxy: "edge-2", Revision: 11, WaitingFor: "route"}},
				Missing: []wire.MissingNode{{Node: "cp-2", Reason: "no answer"}},
			},
			exitWait,
			[]string{
				"edge-2  pending  -     has revision 11, waiting for route", "and 2 more pending",
				"node cp-2 does not tell of its proxies: no answer",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newCanned(t)
			fleetEdge(s)
			s.onFunc("GET /tenants/default/fleets/edge/status", func(w http.ResponseWriter, r *http.Request, _ []byte) {
				if q := r.URL.Query(); q.Get("revision") != "13" {
					t.Errorf("asked for %v", q)
				}
				reply(w, 200, tt.status)
			})
			in := "\"@type\": " + clusterType + "\nname: web\n"
			r := ecpctl(t, s.url, in, "apply", "-f", "-", "--fleet", "edge", "--wait=300ms").exits(tt.code)
			r.prints(tt.prints...)
			r = ecpctl(t, s.url, in, "apply", "-f", "-", "--fleet", "edge", "--wait=1ms", "-o", "json").exits(tt.code)
			if got := decode[applied](r); got.Status == nil || got.Status.Proxies != tt.status.Proxies {
				t.Errorf("printed %s", r.out)
			}
		})
	}
}

func TestDryRunShowsTheDifferences(t *testing.T) {
	s := newCanned(t)
	fleetEdge(s)
	s.onFunc("POST /tenants/default/fleets/edge/changes", func(w http.ResponseWriter, r *http.Request, _ []byte) {
		if q := r.URL.Query(); q.Get("dry_run") != "true" || q.Get("content") != "true" {
			t.Errorf("asked with %v", q)
		}
		reply(w, 200, wire.Changed{
			Revision: 12, DryRun: true, Affected: &wire.Affected{Connected: 1},
			Changed: []wire.Change{
				{
					Op: wire.OpUpdated, Type: "cluster", Name: "web",
					Before: json.RawMessage(`{"name":"web","connect_timeout":"1s"}`),
					After:  json.RawMessage(`{"name":"web","connect_timeout":"2s"}`),
				},
				{Op: wire.OpRemoved, Type: "route", Name: "old", Before: json.RawMessage(`{"name":"old"}`)},
			},
			Warnings: []wire.FieldError{{Path: "upsert[0].name", Detail: "odd"}},
		})
	})
	in := "\"@type\": " + clusterType + "\nname: web\n---\n{\"@type\": " + assignmentType + ", cluster_name: web}\n"
	for _, args := range [][]string{{"apply", "--dry-run"}, {"diff"}} {
		r := ecpctl(t, s.url, in, append(args, "-f", "-", "--fleet", "edge")...).exits(exitDone)
		r.prints("endpoints web would be put\n", "fleet edge: 2 changes to revision 12, for 1 connected proxy\n"+
			"updated cluster web\n  @@ -1 +1 @@\n  -connect_timeout: 1s\n  +connect_timeout: 2s\n   name: web\n"+
			"removed route old\n  @@ -1 +1 @@\n  -name: old\n")
		r.complains("warning: stdin (document 1): name: odd")
	}
	if strings.Contains(s.order(), "PUT") {
		t.Errorf("a dry run wrote:\n%s", s.order())
	}
	r := ecpctl(t, s.url, in, "diff", "-f", "-", "--fleet", "edge", "-o", "json").exits(exitDone)
	if got := decode[trial](r); len(got.Change.Changed) != 2 || len(got.Endpoints) != 1 {
		t.Errorf("printed %s", r.out)
	}
	s.onFunc("POST /tenants/default/fleets/edge/changes", func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		problem(w, wire.CodeFleetNotFound)
	})
	ecpctl(t, s.url, in, "diff", "-f", "-", "--fleet", "edge").exits(exitDone).
		prints("fleet edge would be created, with 1 resource from the files").complains("were not checked")
}
