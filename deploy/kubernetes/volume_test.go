//go:build deploy

package kubernetes

import (
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestVolumes: what the runbook VolumeSpaceLow says can be done, and stops no
// node but the one that gets an empty volume.
func TestVolumes(t *testing.T) {
	t.Parallel()
	c := chart{namespace: "volumes", values: "deploy/helm/cases/default.yaml"}
	c.installed(t)
	ready(t, c.namespace, release, 3)
	must(t, "kubectl", "-n", c.namespace, "scale", "statefulset/"+release, "--replicas=4")
	ready(t, c.namespace, release, 4)
	before := uids(pods(t, c.namespace))

	c.grow(t, "data-"+release+"-0")
	out, err := try(t, "helm", "upgrade", release, "deploy/helm/envoy-control", "--namespace", c.namespace, "--set", "persistence.size=20Gi")
	if err == nil || !strings.Contains(out, "StatefulSet.apps") || !strings.Contains(out, "volumeClaimTemplates") {
		t.Errorf("another size: %v\n%s", err, out)
	}
	c.run(t, "delete statefulset "+release+" --cascade=orphan")
	node.hold(c.namespace, true) // what is asked for in between is seen
	c.apply(t, "upgrade", "--set", "persistence.size=20Gi")
	set := get[appsv1.StatefulSet](t, setPath(c.namespace, release))
	if size := set.Spec.VolumeClaimTemplates[0].Spec.Resources.Requests.Storage().String(); size != "20Gi" || *set.Spec.Replicas != 4 {
		t.Errorf("made anew there are to be %d nodes with %s, there were 4", *set.Spec.Replicas, size)
	}
	node.hold(c.namespace, false)
	ready(t, c.namespace, release, 4)
	if after := uids(pods(t, c.namespace)); !maps.Equal(before, after) {
		t.Errorf("the pods are others: %v, were %v", slices.Sorted(maps.Keys(after)), slices.Sorted(maps.Keys(before)))
	}

	pod := release + "-2"
	claim := get[corev1.PersistentVolumeClaim](t, "/api/v1/namespaces/"+c.namespace+"/persistentvolumeclaims/data-"+pod).UID
	c.run(t, "delete pvc data-"+pod+" --wait=false")
	c.run(t, "delete pod "+pod)
	ready(t, c.namespace, release, 4)
	if now := get[corev1.PersistentVolumeClaim](t, "/api/v1/namespaces/"+c.namespace+"/persistentvolumeclaims/data-"+pod); now.UID == claim {
		t.Error("the node came back with its old volume")
	} else if size := now.Spec.Resources.Requests.Storage().String(); size != "20Gi" {
		t.Errorf("its new volume has %s", size)
	}
}

// grow makes a volume larger as the runbook says. What binds volumes is not here.
func (c chart) grow(t *testing.T, claim string) {
	t.Helper()
	path := "/api/v1/namespaces/" + c.namespace + "/persistentvolumeclaims/" + claim
	bound := get[corev1.PersistentVolumeClaim](t, path)
	bound.Status.Phase = corev1.ClaimBound
	if err := server.do(t.Context(), request{method: http.MethodPut, path: path + "/status", body: bound}, nil); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../runbooks/VolumeSpaceLow.md")
	if err != nil {
		t.Fatal(err)
	}
	_, patch, _ := strings.Cut(string(text), "patch pvc CLAIM ")
	patch, _, _ = strings.Cut(patch, "`")
	c.run(t, "patch pvc "+claim+" "+patch)
	if size := get[corev1.PersistentVolumeClaim](t, path).Spec.Resources.Requests.Storage().String(); size != "20Gi" {
		t.Errorf("the volume was asked to have %s", size)
	}
}

// run runs a command of kubectl that the runbook has, for this namespace.
func (c chart) run(t *testing.T, words string) {
	t.Helper()
	shell(t, "kubectl -n "+c.namespace+" "+words)
}

func uids(pods map[string]corev1.Pod) map[string]types.UID {
	out := map[string]types.UID{}
	for name, pod := range pods {
		out[name] = pod.UID
	}
	return out
}
