package statefulset

import (
	"bytes"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// objects are what the driver runs of a rendered chart.
type objects struct {
	set      *appsv1.StatefulSet
	services map[string]*corev1.Service
	// data of config maps and secrets, by kind and name: "Secret/keys".
	data   map[string]map[string]string
	budget *policyv1.PodDisruptionBudget
	// hooks are the pods of jobs and those of nobody, by name.
	hooks map[string]*corev1.PodTemplateSpec
	// minimum is what an autoscaler brings the set to, whatever the load.
	minimum int
}

// parse reads rendered YAML. Kinds that ask nothing of a pod's process are
// left out; what a pod asks for and the driver does not do is an error.
func parse(text []byte) (*objects, error) {
	o := &objects{services: map[string]*corev1.Service{}, data: map[string]map[string]string{}, hooks: map[string]*corev1.PodTemplateSpec{}}
	for document := range bytes.SplitSeq(text, []byte("\n---")) {
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal(document, &kind); err != nil {
			return nil, fmt.Errorf("parse manifests: %w", err)
		}
		if err := o.add(kind.Kind, document); err != nil {
			return nil, fmt.Errorf("parse a %s: %w", kind.Kind, err)
		}
	}
	if o.set == nil {
		return nil, errors.New("parse manifests: there is no StatefulSet")
	}
	if _, ok := o.services[o.set.Spec.ServiceName]; !ok {
		return nil, fmt.Errorf("parse manifests: there is no service %q", o.set.Spec.ServiceName)
	}
	return o, supported(&o.set.Spec)
}

func (o *objects) add(kind string, document []byte) error {
	switch kind {
	case "StatefulSet":
		if o.set != nil {
			return errors.New("the driver runs one alone")
		}
		o.set = &appsv1.StatefulSet{}
		return yaml.UnmarshalStrict(document, o.set)
	case "Service":
		s := &corev1.Service{}
		err := yaml.UnmarshalStrict(document, s)
		o.services[s.Name] = s
		return err
	case "ConfigMap":
		m := &corev1.ConfigMap{}
		err := yaml.UnmarshalStrict(document, m)
		o.data["ConfigMap/"+m.Name] = m.Data
		return err
	case "Secret":
		s := &corev1.Secret{}
		err := yaml.UnmarshalStrict(document, s)
		data := map[string]string{}
		for name, value := range s.Data {
			data[name] = string(value)
		}
		for name, value := range s.StringData {
			data[name] = value
		}
		o.data["Secret/"+s.Name] = data
		return err
	case "HorizontalPodAutoscaler":
		a := &autoscalingv2.HorizontalPodAutoscaler{}
		err := yaml.UnmarshalStrict(document, a)
		o.minimum = 1
		if a.Spec.MinReplicas != nil {
			o.minimum = int(*a.Spec.MinReplicas)
		}
		return err
	case "Job":
		j := &batchv1.Job{}
		err := yaml.UnmarshalStrict(document, j)
		o.hooks[j.Name] = &j.Spec.Template
		return err
	case "Pod":
		p := &corev1.Pod{}
		err := yaml.UnmarshalStrict(document, p)
		o.hooks[p.Name] = &corev1.PodTemplateSpec{ObjectMeta: p.ObjectMeta, Spec: p.Spec}
		return err
	case "PodDisruptionBudget":
		if o.budget != nil {
			return errors.New("the driver knows one alone")
		}
		o.budget = &policyv1.PodDisruptionBudget{}
		return yaml.UnmarshalStrict(document, o.budget)
	}
	return nil
}

// supported refuses what would be left out in silence.
func supported(s *appsv1.StatefulSetSpec) error {
	spec := &s.Template.Spec
	if len(spec.Containers) != 1 || len(spec.InitContainers) > 0 {
		return errors.New("pods with several containers are not supported")
	}
	if spec.EnableServiceLinks == nil || *spec.EnableServiceLinks {
		return errors.New("variables of services are not supported")
	}
	c := &spec.Containers[0]
	for _, p := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		if p != nil && p.GRPC != nil {
			return errors.New("gRPC probes are not supported")
		}
	}
	if l := c.Lifecycle; l != nil && (l.PostStart != nil || l.StopSignal != nil) {
		return errors.New("postStart and stopSignal are not supported")
	}
	for _, v := range spec.Volumes {
		if v.EmptyDir == nil && v.ConfigMap == nil && v.Secret == nil {
			return fmt.Errorf("the kind of volume %s is not supported", v.Name)
		}
	}
	return nil
}
