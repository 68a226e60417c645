//go:build deploy

package kubernetes

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	plain    = "envoy-control" // the namespace of deploy/k8s
	plainSet = "api-server"
)

// applyPlain applies deploy/k8s as its own comment says.
func applyPlain(t *testing.T) string {
	t.Helper()
	return must(t, "kubectl", "apply", "-k", "deploy/k8s", "--validate=strict", "--warnings-as-errors")
}

// installPlain has the nodes of deploy/k8s running.
func installPlain(t *testing.T) *appsv1.StatefulSet {
	t.Helper()
	cleared(t, plain)
	applyPlain(t)
	must(t, "kubectl", "-n", plain, "create", "secret", "generic", "envoy-control-secrets", "--from-literal=JWT_SECRET="+strings.Repeat("s", 64))
	return ready(t, plain, plainSet, 3)
}

// TestManifests: what the documentation says works in a cluster that has nothing:
// Helm, and in another one the plain manifests. The server takes these without a
// warning; a second time they change nothing; and the
// controllers make of them what is meant.
func TestManifests(t *testing.T) {
	t.Parallel()
	t.Run("with Helm", installsAsTheReadmeSays)
	t.Run("plain", installsPlain)
}

// installsAsTheReadmeSays runs the commands of deploy/README.md.
func installsAsTheReadmeSays(t *testing.T) {
	cleared(t, plain)
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Kubernetes\n")
	parts := strings.SplitN(section, "```", 3)
	if len(parts) != 3 || strings.Count(parts[1], "kubectl ") != 3 || strings.Count(parts[1], "helm ") != 2 {
		t.Fatalf("the README has other commands\n%s", section)
	}
	shell(t, parts[1])
	ready(t, plain, release, 3)
	must(t, "helm", "-n", plain, "uninstall", release, "--wait")
}

func installsPlain(t *testing.T) {
	set := installPlain(t)
	// Where lists are replaced as a whole kubectl says "configured" and sends what
	// is there: the difference counts.
	must(t, "kubectl", "diff", "-k", "deploy/k8s")
	applyPlain(t)
	if now := get[appsv1.StatefulSet](t, setPath(plain, plainSet)); now.Generation != set.Generation || *now.Spec.Replicas != 3 {
		t.Errorf("applied again, the StatefulSet has generation %d, was %d, and asks for %d pods", now.Generation, set.Generation, *now.Spec.Replicas)
	}
	must(t, "kubectl", "apply", "-f", "deploy/k8s/example/secret.yaml", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict")

	for name, pod := range pods(t, plain) {
		// ZONE of the nodes is made of it.
		if zone := pod.Labels[corev1.LabelTopologyZone]; !strings.HasPrefix(zone, "zone-") {
			t.Errorf("%s has the zone %q", name, zone)
		}
	}
	t.Run("restricted", refusesOtherPods)
	t.Run("scaled", scalesBehindTheVoters)
	t.Run("evicted", evictsOne)
	t.Run("updated", updates)
	t.Run("not updated", updatesWholeOnesOnly)
	t.Run("applied after updates", func(t *testing.T) {
		applyPlain(t)
		ready(t, plain, plainSet, 3)
		if got := images(t, plain); got == updated {
			t.Errorf("the nodes still run %s", got)
		}
	})
	t.Run("blue and green", movesToGreen)
}

// refusesOtherPods: the namespace takes no pod that is not restricted. (That it
// takes the nodes' is shown by their being there.)
func refusesOtherPods(t *testing.T) {
	pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "any"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "any", Image: "any:1"}}}}
	err := server.do(t.Context(), request{method: http.MethodPost, path: podsPath(plain), body: pod}, nil)
	if err == nil || !strings.Contains(err.Error(), `violates PodSecurity \"restricted:latest\"`) {
		t.Errorf("a pod that may be root's: %v", err)
	}
}

// scalesBehindTheVoters: four pods come and go at once, none of the first three
// does, and the autoscaler holds the minimum.
func scalesBehindTheVoters(t *testing.T) {
	before := pods(t, plain)
	scale := func(to string) { must(t, "kubectl", "-n", plain, "scale", "statefulset/"+plainSet, "--replicas="+to) }
	scale("7")
	ready(t, plain, plainSet, 7)
	scale("3")
	ready(t, plain, plainSet, 3)
	scale("1")
	ready(t, plain, plainSet, 3)
	after := pods(t, plain)
	if first := plainSet + "-0"; after[first].UID != before[first].UID || len(after) != 3 {
		t.Errorf("of %d pods the first is another", len(after))
	}
	claims := get[corev1.PersistentVolumeClaimList](t, "/api/v1/namespaces/"+plain+"/persistentvolumeclaims")
	if len(claims.Items) != 7 {
		t.Errorf("of 7 volumes %d are left", len(claims.Items))
	}
}

// evictsOne: the budget lets one pod go, and the next when that is back.
func evictsOne(t *testing.T) {
	evict := func(pod string) error {
		eviction := policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod, Namespace: plain}}
		return server.do(t.Context(), request{method: http.MethodPost, path: podsPath(plain) + "/" + pod + "/eviction", body: eviction}, nil)
	}
	node.hold(plain, true)
	eventually(t, "evict the first", func() error { return evict(plainSet + "-0") })
	err := evict(plainSet + "-1")
	if r, ok := errors.AsType[*refusal](err); !ok || r.code != http.StatusTooManyRequests {
		t.Errorf("a second eviction meanwhile: %v", err)
	}
	node.hold(plain, false)
	ready(t, plain, plainSet, 3)
	eventually(t, "evict the second", func() error { return evict(plainSet + "-1") })
	ready(t, plain, plainSet, 3)
}

// TestStrictness: what the other tests rely on does refuse.
func TestStrictness(t *testing.T) {
	text, err := os.ReadFile("../k8s/statefulset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "set.yaml")
	wrong := strings.Replace(string(text), "\nspec:\n", "\nspec:\n  minReadySecond: 5\n", 1)
	if err := os.WriteFile(file, []byte(wrong), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := try(t, "kubectl", "create", "-f", file, "--dry-run=server", "--validate=strict")
	if err == nil || !strings.Contains(out, `unknown field "spec.minReadySecond"`) {
		t.Errorf("%v\n%s", err, out)
	}
}
