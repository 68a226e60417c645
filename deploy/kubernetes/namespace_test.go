//go:build deploy

package kubernetes

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// cleared removes a namespace after the test, and waits until it is gone.
func cleared(t *testing.T, namespace string) {
	t.Helper()
	t.Cleanup(func() {
		node.hold(namespace, false)
		cmd := command(context.Background(), "kubectl", "delete", "namespace", namespace, "--ignore-not-found", "--timeout=90s")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// ready waits until a StatefulSet has so many pods, all ready and of the newest
// revision.
func ready(t *testing.T, namespace, name string, replicas int32) *appsv1.StatefulSet {
	t.Helper()
	var set *appsv1.StatefulSet
	eventually(t, namespace+"/"+name, func() error {
		set = get[appsv1.StatefulSet](t, setPath(namespace, name))
		s := set.Status
		if *set.Spec.Replicas != replicas || s.ObservedGeneration != set.Generation || s.Replicas != replicas || s.AvailableReplicas != replicas ||
			s.UpdatedReplicas != replicas || s.CurrentRevision != s.UpdateRevision {
			return fmt.Errorf("%d pods are wanted of %d, it has %+v", *set.Spec.Replicas, replicas, s)
		}
		return nil
	})
	return set
}

// pods returns the pods of a namespace by name.
func pods(t *testing.T, namespace string) map[string]corev1.Pod {
	t.Helper()
	out := map[string]corev1.Pod{}
	for _, pod := range get[corev1.PodList](t, podsPath(namespace)).Items {
		out[pod.Name] = pod
	}
	return out
}

// images are those of a namespace's nodes.
func images(t *testing.T, namespace string) string {
	t.Helper()
	found := map[string]bool{}
	for _, pod := range pods(t, namespace) {
		if pod.Labels["app.kubernetes.io/component"] == "node" {
			found[pod.Spec.Containers[0].Image] = true
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(found)), " ")
}

// shell runs commands of the documentation.
func shell(t *testing.T, text string) string {
	t.Helper()
	return must(t, "bash", "-euo", "pipefail", "-c", text)
}
