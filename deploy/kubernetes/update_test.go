//go:build deploy

package kubernetes

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
)

// TestRollingUpdate: rolling-update.sh has Kubernetes replace the nodes, and go
// back where a new one does not come up.
func TestRollingUpdate(t *testing.T) {
	installPlain(t)
	update := func(image string, more ...string) (string, error) {
		return try(t, "deploy/scripts/rolling-update.sh", append([]string{"--kubernetes", "--statefulset", plainSet, "--image", image}, more...)...)
	}
	if out, err := update("ecp:v2"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := images(t, plain); got != "ecp:v2" {
		t.Errorf("updated, the nodes run %s", got)
	}
	for _, tag := range []string{neverPulled, neverReady} {
		before := pods(t, plain)
		out, err := update("ecp:"+tag, "--timeout", "10")
		if err == nil || !strings.Contains(out, "going back") {
			t.Errorf("%s: %v\n%s", tag, err, out)
		}
		ready(t, plain, plainSet, 3)
		after := pods(t, plain)
		if got := images(t, plain); got != "ecp:v2" {
			t.Errorf("%s: after going back the nodes run %s", tag, got)
		}
		for _, voter := range []string{"-0", "-1"} {
			if before[plainSet+voter].UID != after[plainSet+voter].UID {
				t.Errorf("%s: a second pod was replaced, %s", tag, voter)
			}
		}
	}
	// Applied again, the manifests' own image returns.
	applyPlain(t)
	ready(t, plain, plainSet, 3)
}

// TestAutoscalerTakesOver: a release that had a fixed number of nodes keeps them
// when the autoscaler is turned on, and when settings change later.
func TestAutoscalerTakesOver(t *testing.T) {
	c := chart{namespace: "takes-over", values: "deploy/helm/cases/default.yaml"}
	cleared(t, c.namespace)
	must(t, "kubectl", "create", "namespace", c.namespace)
	must(t, "kubectl", "-n", c.namespace, "create", "secret", "generic", release+"-secrets", "--from-literal=JWT_SECRET="+strings.Repeat("s", 64))
	c.apply(t, "install", "--set", "autoscaling.enabled=false,replicaCount=7,voters=5", "--wait")
	before := pods(t, c.namespace)

	node.hold(true) // as slow as a real one: what is asked for in between is seen
	c.apply(t, "upgrade", "--set", "autoscaling.minReplicas=5,voters=5")
	set := get[appsv1.StatefulSet](t, setPath(c.namespace, release))
	if *set.Spec.Replicas != 7 {
		t.Errorf("when the autoscaler takes over there are to be %d nodes, there were 7", *set.Spec.Replicas)
	}
	node.hold(false)
	ready(t, c.namespace, release, *set.Spec.Replicas)
	must(t, "kubectl", "-n", c.namespace, "scale", "statefulset/"+release, "--replicas=6")
	ready(t, c.namespace, release, 6)
	// Fewer voters: the pods behind them are asked for their votes first.
	c.apply(t, "upgrade", "--wait", "--set", "config.LOG_LEVEL=debug")
	ready(t, c.namespace, release, 6)
	var asked string
	for name, pod := range node.hasFinished(c.namespace) {
		if strings.Contains(name, release+"-voters-") {
			asked = strings.Join(pod.Spec.Containers[0].Args, " ")
		}
	}
	if !strings.HasSuffix(asked, " demote --ignore-not-found --wait=1m envoy-control-3 envoy-control-4") {
		t.Errorf("with fewer voters the nodes were asked: %q", asked)
	}
	if len(before) != 7 {
		t.Errorf("in the beginning there were %d pods", len(before))
	}
}
