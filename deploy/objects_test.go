package deploy_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"

	"github.com/org/envoy-control-plane/deploy/local"
)

// kinds are all that the chart makes, in the types of the newest Kubernetes.
// The operator's own kinds are maps.
var kinds = map[string]func() any{
	"v1/Namespace":                            func() any { return &corev1.Namespace{} },
	"v1/ConfigMap":                            func() any { return &corev1.ConfigMap{} },
	"v1/Secret":                               func() any { return &corev1.Secret{} },
	"v1/Service":                              func() any { return &corev1.Service{} },
	"v1/ServiceAccount":                       func() any { return &corev1.ServiceAccount{} },
	"v1/Pod":                                  func() any { return &corev1.Pod{} },
	"apps/v1/StatefulSet":                     func() any { return &appsv1.StatefulSet{} },
	"batch/v1/Job":                            func() any { return &batchv1.Job{} },
	"autoscaling/v2/HorizontalPodAutoscaler":  func() any { return &autoscalingv2.HorizontalPodAutoscaler{} },
	"networking.k8s.io/v1/NetworkPolicy":      func() any { return &networkingv1.NetworkPolicy{} },
	"networking.k8s.io/v1/Ingress":            func() any { return &networkingv1.Ingress{} },
	"policy/v1/PodDisruptionBudget":           func() any { return &policyv1.PodDisruptionBudget{} },
	"monitoring.coreos.com/v1/ServiceMonitor": func() any { return &map[string]any{} },
	"monitoring.coreos.com/v1/PrometheusRule": func() any { return &map[string]any{} },
}

// objects are what is applied together, by kind and name.
type objects map[string]any

// decode reads the documents of a file, strictly: no field that the type lacks,
// no key twice, no object twice.
func decode(t *testing.T, text string) objects {
	t.Helper()
	found := objects{}
	for part := range strings.SplitSeq("\n"+text, "\n---\n") {
		var head struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Metadata   struct {
				Name string `json:"name"`
			} `json:"metadata"`
		}
		if err := yaml.Unmarshal([]byte(part), &head); err != nil {
			t.Fatalf("%v\n%s", err, part)
		}
		if head.Kind == "" {
			continue // a comment alone
		}
		made, ok := kinds[head.APIVersion+"/"+head.Kind]
		if !ok {
			t.Fatalf("%s %s is of no known kind", head.APIVersion, head.Kind)
		}
		object, name := made(), head.Kind+"/"+head.Metadata.Name
		if err := yaml.UnmarshalStrict([]byte(part), object); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if found[name] != nil {
			t.Errorf("%s is there twice", name)
		}
		found[name] = object
	}
	return found
}

// each calls do for all objects of a type.
func each[T any](all objects, do func(name string, object *T)) {
	for name, object := range all {
		if o, ok := object.(*T); ok {
			do(name, o)
		}
	}
}

// only returns the one object of a kind and name.
func only[T any](t *testing.T, all objects, name string) *T {
	t.Helper()
	o, ok := all[name].(*T)
	if !ok {
		t.Fatalf("there is no %s", name)
	}
	return o
}

// helm returns Helm, built by make once.
var helm = sync.OnceValues(func() (string, error) {
	paths, err := local.Make(context.Background(), "helm")
	if err != nil {
		return "", err
	}
	return paths[0], nil
})

const chart = "helm/envoy-control"

// render renders the chart with the values of a file and others, NAME=VALUE.
func render(t *testing.T, values string, set ...string) objects {
	t.Helper()
	path, err := helm()
	if err != nil {
		t.Fatalf("build Helm: %v", err)
	}
	args := []string{"template", "envoy-control", chart, "--namespace", "envoy-control", "--kube-version", "1.30", "--values", values}
	for _, s := range set {
		args = append(args, "--set", s)
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return decode(t, string(out))
}

// forEachCase runs a test over what the chart makes of each file of values.
func forEachCase(t *testing.T, test func(t *testing.T, all objects)) {
	t.Helper()
	files, err := filepath.Glob("helm/cases/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range append(files, "helm/plain.yaml") {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) { test(t, render(t, file)) })
	}
}

// nodes returns the StatefulSet of the nodes and its container.
func nodes(t *testing.T, all objects) (*appsv1.StatefulSet, *corev1.Container) {
	t.Helper()
	var found []*appsv1.StatefulSet
	each(all, func(_ string, s *appsv1.StatefulSet) {
		if s.Labels["app.kubernetes.io/component"] == "node" {
			found = append(found, s)
		}
	})
	if len(found) != 1 || len(found[0].Spec.Template.Spec.Containers) != 1 {
		t.Fatalf("%d StatefulSets of nodes", len(found))
	}
	return found[0], &found[0].Spec.Template.Spec.Containers[0]
}

// pods returns the templates of all pods by the name of what makes them.
func pods(all objects) map[string]*corev1.PodTemplateSpec {
	out := map[string]*corev1.PodTemplateSpec{}
	each(all, func(name string, o *appsv1.StatefulSet) { out[name] = &o.Spec.Template })
	each(all, func(name string, o *batchv1.Job) { out[name] = &o.Spec.Template })
	each(all, func(name string, o *corev1.Pod) {
		out[name] = &corev1.PodTemplateSpec{ObjectMeta: o.ObjectMeta, Spec: o.Spec}
	})
	return out
}

// containers returns the containers of a pod, those that prepare it too.
func containers(pod *corev1.PodTemplateSpec) []corev1.Container {
	return slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers)
}

// podEnvironment is what the container of a node gets, but for the secret.
func podEnvironment(t *testing.T, all objects, pod string) map[string]string {
	t.Helper()
	set, c := nodes(t, all)
	env := map[string]string{}
	for _, from := range c.EnvFrom {
		if from.ConfigMapRef != nil {
			env = with(env, only[corev1.ConfigMap](t, all, "ConfigMap/"+from.ConfigMapRef.Name).Data)
		}
	}
	fields := map[string]string{"metadata.name": pod, "metadata.namespace": set.Namespace}
	for _, v := range c.Env {
		value := v.Value
		if v.ValueFrom != nil && v.ValueFrom.FieldRef != nil {
			value = fields[v.ValueFrom.FieldRef.FieldPath]
		}
		for name, earlier := range env {
			value = strings.ReplaceAll(value, "$("+name+")", earlier)
		}
		env[v.Name] = value
	}
	return env
}

func podName(s *appsv1.StatefulSet, ordinal int) string { return fmt.Sprintf("%s-%d", s.Name, ordinal) }
