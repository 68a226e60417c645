//go:build deploy

package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Images that never get so far.
const (
	neverPulled = "never-pulled"
	neverReady  = "never-ready"
)

const zones = 3

// kubelet stands in for the scheduler and for the kubelets of machines that there
// are not. A pod whose config maps and secrets are there is ready at once; one
// that is to end, as jobs' are, has succeeded.
type kubelet struct {
	api *api

	mu sync.Mutex
	// held are the namespaces in which nothing gets ready and nothing ends, but for
	// pods that are to end.
	held map[string]bool
	// finished are the pods that have succeeded, also those deleted since.
	finished map[string]corev1.Pod
}

func machine(zone int) string { return fmt.Sprintf("machine-%d", zone) }

// join makes the machines, one in each zone.
func (k *kubelet) join(ctx context.Context) error {
	k.finished, k.held = map[string]corev1.Pod{}, map[string]bool{}
	for zone := range zones {
		machine := corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name:   machine(zone),
			Labels: map[string]string{corev1.LabelTopologyZone: fmt.Sprintf("zone-%d", zone), corev1.LabelHostname: machine(zone)},
		}}
		if err := k.api.do(ctx, request{method: http.MethodPost, path: "/api/v1/nodes", body: machine}, nil); err != nil {
			return err
		}
	}
	return nil
}

// run ends with ctx.
func (k *kubelet) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := k.pass(ctx); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "the stand-in for kubelets:", err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func (k *kubelet) pass(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.balance(ctx); err != nil {
		return err
	}
	var pods corev1.PodList
	if err := k.api.do(ctx, request{method: http.MethodGet, path: "/api/v1/pods"}, &pods); err != nil {
		return err
	}
	for i := range pods.Items {
		if pod := pods.Items[i]; k.held[pod.Namespace] && pod.Spec.RestartPolicy != corev1.RestartPolicyNever {
			continue
		}
		err := k.step(ctx, &pods.Items[i], i)
		// The pod has gone or changed meanwhile, or its namespace goes.
		r, ok := errors.AsType[*refusal](err)
		if ok && (r.code == http.StatusNotFound || r.code == http.StatusConflict || r.code == http.StatusForbidden) {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// balance gives load balancers an address, as a cloud does.
func (k *kubelet) balance(ctx context.Context) error {
	var services corev1.ServiceList
	if err := k.api.do(ctx, request{method: http.MethodGet, path: "/api/v1/services"}, &services); err != nil {
		return err
	}
	for _, s := range services.Items {
		if s.Spec.Type != corev1.ServiceTypeLoadBalancer || len(s.Status.LoadBalancer.Ingress) > 0 {
			continue
		}
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.2"}}
		path := "/api/v1/namespaces/" + s.Namespace + "/services/" + s.Name + "/status"
		if err := k.api.do(ctx, request{method: http.MethodPut, path: path, body: s}, nil); err != nil {
			return err
		}
	}
	return nil
}

// hold stops the stand-in in a namespace, or has it go on.
func (k *kubelet) hold(namespace string, held bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held[namespace] = held
}

// hasFinished returns the pods of a namespace that have succeeded, by name.
func (k *kubelet) hasFinished(namespace string) map[string]corev1.Pod {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := maps.Clone(k.finished)
	maps.DeleteFunc(out, func(_ string, pod corev1.Pod) bool { return pod.Namespace != namespace })
	return out
}

// step does the next thing for a pod.
func (k *kubelet) step(ctx context.Context, pod *corev1.Pod, i int) error {
	path := podsPath(pod.Namespace) + "/" + pod.Name
	image := pod.Spec.Containers[0].Image
	switch {
	case pod.Status.Phase == corev1.PodSucceeded:
		return nil
	case pod.DeletionTimestamp != nil:
		now := metav1.DeleteOptions{GracePeriodSeconds: new(int64), Preconditions: metav1.NewUIDPreconditions(string(pod.UID))}
		return k.api.do(ctx, request{method: http.MethodDelete, path: path, body: now}, nil)
	case pod.Spec.NodeName == "":
		binding := corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace},
			Target:     corev1.ObjectReference{Kind: "Node", Name: machine(i % zones)},
		}
		return k.api.do(ctx, request{method: http.MethodPost, path: path + "/binding", body: binding}, nil)
	case pod.Status.Phase == corev1.PodRunning || strings.HasSuffix(image, ":"+neverPulled):
		return nil
	}
	if missing, err := k.misses(ctx, pod); missing || err != nil {
		return err
	}
	status := k.status(pod, strings.HasSuffix(image, ":"+neverReady))
	if status.Phase == corev1.PodSucceeded {
		k.finished[pod.Namespace+"/"+pod.Name] = *pod
	}
	patch := request{method: http.MethodPatch, path: path + "/status", kind: "application/merge-patch+json", body: map[string]any{"status": status}}
	return k.api.do(ctx, patch, nil)
}

func (k *kubelet) status(pod *corev1.Pod, broken bool) corev1.PodStatus {
	if pod.Spec.RestartPolicy == corev1.RestartPolicyNever {
		return corev1.PodStatus{Phase: corev1.PodSucceeded}
	}
	now, ready := metav1.Now(), corev1.ConditionTrue
	if broken {
		ready = corev1.ConditionFalse
	}
	status := corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "192.0.2.1", PodIPs: []corev1.PodIP{{IP: "192.0.2.1"}}, StartTime: &now}
	for _, kind := range []corev1.PodConditionType{corev1.PodReady, corev1.ContainersReady, corev1.PodInitialized, corev1.PodScheduled} {
		status.Conditions = append(status.Conditions, corev1.PodCondition{Type: kind, Status: ready, LastTransitionTime: now})
	}
	return status
}

// misses reports whether a config map or secret of the pod's environment, or a
// key of it, is not there: its containers would not start.
func (k *kubelet) misses(ctx context.Context, pod *corev1.Pod) (bool, error) {
	wanted := map[string][]string{} // keys by path
	for _, c := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
		for _, from := range c.EnvFrom {
			if from.ConfigMapRef != nil {
				wanted["configmaps/"+from.ConfigMapRef.Name] = nil
			}
			if from.SecretRef != nil {
				wanted["secrets/"+from.SecretRef.Name] = nil
			}
		}
		for _, v := range c.Env {
			if v.ValueFrom != nil && v.ValueFrom.SecretKeyRef != nil {
				path := "secrets/" + v.ValueFrom.SecretKeyRef.Name
				wanted[path] = append(wanted[path], v.ValueFrom.SecretKeyRef.Key)
			}
		}
	}
	for path, keys := range wanted {
		var found struct{ Data map[string]string }
		err := k.api.do(ctx, request{method: http.MethodGet, path: "/api/v1/namespaces/" + pod.Namespace + "/" + path}, &found)
		if r, ok := errors.AsType[*refusal](err); ok && r.code == http.StatusNotFound {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		for _, key := range keys {
			if _, ok := found.Data[key]; !ok {
				return true, nil
			}
		}
	}
	return false, nil
}
