//go:build deploy

package kubernetes

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
)

const release = "envoy-control"

// TestChart: the server takes what the chart makes of each file of values,
// hooks and tests too, and Helm installs, tests, upgrades and removes it.
func TestChart(t *testing.T) {
	t.Parallel()
	for name, replicas := range map[string]int32{"default": 3, "everything": 3, "five": 7, "little": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			chart{namespace: "chart-" + name, values: "deploy/helm/cases/" + name + ".yaml", replicas: replicas}.live(t)
		})
	}
}

func TestChartCasesAreAll(t *testing.T) {
	files, err := filepath.Glob("../helm/cases/*.yaml")
	if err != nil || len(files) != 4 {
		t.Errorf("TestChart knows four cases: %v, %v", files, err)
	}
}

type chart struct {
	namespace, values string
	replicas          int32
}

// helm runs a command of Helm on the release. With Helm the namespace is there
// before, so the chart does not make it.
func (c chart) helm(t *testing.T, verb string, more ...string) string {
	t.Helper()
	return must(t, "helm", append([]string{verb, release, "--namespace", c.namespace}, more...)...)
}

func (c chart) apply(t *testing.T, verb string, more ...string) string {
	t.Helper()
	more = append([]string{"deploy/helm/envoy-control", "--values", c.values, "--set", "namespace.create=false", "--timeout=3m"}, more...)
	return c.helm(t, verb, more...)
}

func (c chart) live(t *testing.T) {
	cleared(t, c.namespace)
	must(t, "kubectl", "create", "namespace", c.namespace)
	c.strict(t)
	c.notes(t, c.apply(t, "install"))
	set := ready(t, c.namespace, release, c.replicas)
	c.helm(t, "test")
	if _, ok := node.hasFinished(c.namespace)[c.namespace+"/"+release+"-test"]; !ok {
		t.Errorf("helm test ran %v", slices.Sorted(maps.Keys(node.hasFinished(c.namespace))))
	}

	c.apply(t, "upgrade", "--wait")
	if again := get[appsv1.StatefulSet](t, setPath(c.namespace, release)); again.Generation != set.Generation {
		t.Errorf("an upgrade to the same makes generation %d of %d", again.Generation, set.Generation)
	}
	c.apply(t, "upgrade", "--wait", "--set", "image.digest=,image.tag=v9")
	ready(t, c.namespace, release, c.replicas)
	if got := images(t, c.namespace); got != "envoy-control-plane:v9" {
		t.Errorf("after the upgrade the nodes run %s", got)
	}
	c.helm(t, "rollback", "--wait", "--timeout=3m")
	ready(t, c.namespace, release, c.replicas)
	if got := images(t, c.namespace); got == "envoy-control-plane:v9" {
		t.Error("after going back the nodes run v9")
	}
	c.helm(t, "uninstall", "--wait", "--timeout=1m")
	claims := must(t, "kubectl", "-n", c.namespace, "get", "pvc", "-o", "name")
	if n := strings.Count(claims, "/data-"+release+"-"); n < int(c.replicas) {
		t.Errorf("with the release went volumes, left are\n%s", claims)
	}
}

// installed has the chart in a namespace that is restricted and has the secret.
func (c chart) installed(t *testing.T, more ...string) {
	t.Helper()
	cleared(t, c.namespace)
	must(t, "kubectl", "create", "namespace", c.namespace)
	must(t, "kubectl", "label", "namespace", c.namespace, "pod-security.kubernetes.io/enforce=restricted")
	must(t, "kubectl", "-n", c.namespace, "create", "secret", "generic", release+"-secrets", "--from-literal=JWT_SECRET="+strings.Repeat("s", 64))
	c.apply(t, "install", more...)
}

// strict has the server look at each object, field by field.
func (c chart) strict(t *testing.T) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "all.yaml")
	shell(t, "helm template --validate "+release+" deploy/helm/envoy-control --namespace "+c.namespace+
		" --values "+c.values+" --set namespace.create=false >"+file)
	out := must(t, "kubectl", "create", "--namespace", c.namespace, "-f", file, "--dry-run=server", "--validate=strict", "--warnings-as-errors", "-o", "name")
	if !strings.Contains(out, "statefulset.apps/"+release+"\n") {
		t.Errorf("taken were only\n%s", out)
	}
}

// notes does what the notes of an installation say.
func (c chart) notes(t *testing.T, said string) {
	t.Helper()
	var commands []string
	for line := range strings.Lines(strings.ReplaceAll(said, "\\\n", "")) {
		line = strings.TrimSpace(line)
		// There is no container to run something in.
		if strings.HasPrefix(line, "kubectl ") && !strings.Contains(line, " exec ") {
			commands = append(commands, line)
		}
	}
	if len(commands) != 2 {
		t.Fatalf("the notes have the commands %q\n%s", commands, said)
	}
	if c.namespace == "chart-everything" {
		// The other secrets are named in values, with their keys.
		commands = append(commands, "kubectl -n "+c.namespace+" create secret generic "+release+"-postgresql"+
			" --from-literal=postgres-password=a --from-literal=password=b --from-literal=replication-password=c")
	}
	shell(t, strings.Join(commands, "\n"))
}
