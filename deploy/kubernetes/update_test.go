//go:build deploy

package kubernetes

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// updated is the image after the update that works.
const updated = "ecp:v2"

func rollingUpdate(t *testing.T, image string, more ...string) (string, error) {
	t.Helper()
	return try(t, "deploy/scripts/rolling-update.sh", append([]string{"--kubernetes", "--statefulset", plainSet, "--image", image}, more...)...)
}

// updates: rolling-update.sh has Kubernetes replace the nodes, and goes back where
// a new one does not come up.
func updates(t *testing.T) {
	if out, err := rollingUpdate(t, updated); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, tag := range []string{neverPulled, neverReady} {
		ready(t, plain, plainSet, 3)
		if got := images(t, plain); got != updated {
			t.Errorf("before %s the nodes run %s", tag, got)
		}
		before := pods(t, plain)
		out, err := rollingUpdate(t, "ecp:"+tag, "--timeout", "6")
		if err == nil || !strings.Contains(out, "going back to "+updated) {
			t.Errorf("%s: %v\n%s", tag, err, out)
		}
		ready(t, plain, plainSet, 3)
		after := pods(t, plain)
		if got := images(t, plain); got != updated {
			t.Errorf("%s: after going back the nodes run %s", tag, got)
		}
		for _, voter := range []string{plainSet + "-0", plainSet + "-1"} {
			if before[voter].UID != after[voter].UID {
				t.Errorf("%s: a second pod was replaced, %s", tag, voter)
			}
		}
	}
}

// updatesWholeOnesOnly: while a pod is down none is replaced.
func updatesWholeOnesOnly(t *testing.T) {
	pod := pods(t, plain)[plainSet+"-0"]
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == corev1.PodReady {
			pod.Status.Conditions[i].Status = corev1.ConditionFalse
		}
	}
	path := podsPath(plain) + "/" + pod.Name
	if err := server.do(t.Context(), request{method: http.MethodPut, path: path + "/status", body: pod}, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a pod is down", func() error {
		if get[appsv1.StatefulSet](t, setPath(plain, plainSet)).Status.AvailableReplicas != 2 {
			return context.DeadlineExceeded
		}
		return nil
	})
	out, err := rollingUpdate(t, "ecp:v3", "--timeout", "1")
	if err == nil || !strings.Contains(out, "mend that first") {
		t.Errorf("%v\n%s", err, out)
	}
	if image := get[appsv1.StatefulSet](t, setPath(plain, plainSet)).Spec.Template.Spec.Containers[0].Image; image != updated {
		t.Errorf("and yet pods are replaced by %s", image)
	}
	if err := server.do(t.Context(), request{method: http.MethodDelete, path: path}, nil); err != nil {
		t.Fatal(err)
	}
	ready(t, plain, plainSet, 3)
}

// movesToGreen runs the commands that blue-green-deploy.sh has as an example.
func movesToGreen(t *testing.T) {
	text, err := os.ReadFile("../scripts/blue-green-deploy.sh")
	if err != nil {
		t.Fatal(err)
	}
	said := regexp.MustCompile(`(?m)^# *`).ReplaceAllString(string(text), "")
	examples := regexp.MustCompile(`(?m)^--start '(kubectl [^']*)'\n--switch '(kubectl [^']*)'$`).FindStringSubmatch(said)
	if examples == nil {
		t.Fatal("there are no examples")
	}
	snapshot := filepath.Join(t.TempDir(), "blue.snapshot")
	if err := os.WriteFile(snapshot, []byte("state"), 0o600); err != nil {
		t.Fatal(err)
	}
	shell(t, "export SNAPSHOT="+snapshot+" FROM_CLUSTER=1234567890123456\n"+examples[1])
	ready(t, plain, "green-"+release, 3)
	config := get[corev1.ConfigMap](t, "/api/v1/namespaces/"+plain+"/configmaps/green-"+release+"-config").Data
	if config["RESTORE"] != "/seed/blue.snapshot" || config["FROM_CLUSTER"] != "1234567890123456" {
		t.Errorf("green is started with %v", config)
	}
	secret := get[corev1.Secret](t, "/api/v1/namespaces/"+plain+"/secrets/seed")
	mounts := pods(t, plain)["green-"+release+"-0"].Spec.Containers[0].VolumeMounts
	if string(secret.Data["blue.snapshot"]) != "state" || mounts[len(mounts)-1].MountPath != "/seed" {
		t.Errorf("green gets %v at %v", secret.Data, mounts)
	}

	front := corev1.Service{Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app.kubernetes.io/instance": "blue"}, Ports: []corev1.ServicePort{{Port: 8080}},
	}}
	front.Name = "front"
	services := "/api/v1/namespaces/" + plain + "/services"
	if err := server.do(t.Context(), request{method: http.MethodPost, path: services, body: front}, nil); err != nil {
		t.Fatal(err)
	}
	shell(t, "export TO=green\n"+examples[2])
	if to := get[corev1.Service](t, services+"/front").Spec.Selector; len(to) != 1 || to["app.kubernetes.io/instance"] != "green" {
		t.Errorf("the service leads to %v", to)
	}
}

// TestAutoscalerTakesOver: a release that had a fixed number of nodes keeps them
// when the autoscaler is turned on, and when settings change later.
func TestAutoscalerTakesOver(t *testing.T) {
	t.Parallel()
	c := chart{namespace: "takes-over", values: "deploy/helm/cases/default.yaml"}
	c.installed(t, "--set", "autoscaling.enabled=false,replicaCount=7,voters=5", "--wait")
	before := pods(t, c.namespace)

	node.hold(c.namespace, true) // as slow as a real one: what is asked for in between is seen
	c.apply(t, "upgrade", "--set", "autoscaling.minReplicas=5,voters=5")
	set := get[appsv1.StatefulSet](t, setPath(c.namespace, release))
	if *set.Spec.Replicas != 7 {
		t.Errorf("when the autoscaler takes over there are to be %d nodes, there were 7", *set.Spec.Replicas)
	}
	node.hold(c.namespace, false)
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

// TestHookStopsABrokenImage: where the hook before an upgrade does not get through,
// no node is replaced, and the next upgrade goes on as if nothing had been.
func TestHookStopsABrokenImage(t *testing.T) {
	t.Parallel()
	c := chart{namespace: "broken-image", values: "deploy/helm/cases/little.yaml"}
	c.installed(t, "--wait")
	before := uids(pods(t, c.namespace))
	out, err := try(t, "helm", "upgrade", release, "deploy/helm/envoy-control", "--namespace", c.namespace, "--values", c.values,
		"--set", "image.tag="+neverPulled, "--timeout", "5s")
	if err == nil || !strings.Contains(out, "pre-upgrade hooks failed") {
		t.Errorf("%v\n%s", err, out)
	}
	after := pods(t, c.namespace)
	for name, uid := range before {
		if after[name].UID != uid {
			t.Errorf("%s was replaced", name)
		}
	}
	c.apply(t, "upgrade", "--wait", "--set", "image.tag=v2")
	if got := images(t, c.namespace); got != "envoy-control-plane:v2" {
		t.Errorf("then the nodes run %s", got)
	}
}
