package statefulset

import (
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const environmentText = `
envFrom:
  - configMapRef: {name: settings}
  - prefix: KEY_
    secretRef: {name: keys}
  - secretRef: {name: nothing, optional: true}
env:
  - {name: A, value: "$(FROM_MAP)-$(HOSTNAME)"}
  - {name: FROM_MAP, value: "again $(A) $$(A) $(LATER) $A"}
  - {name: LATER, value: later}
  - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
  - {name: ZONE, valueFrom: {fieldRef: {fieldPath: "metadata.labels['zone']"}}}
  - {name: NOTE, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['a/note']"}}}
  - {name: ONE, valueFrom: {secretKeyRef: {name: keys, key: ONE}}}
  - {name: TWO, valueFrom: {configMapKeyRef: {name: settings, key: TWO, optional: true}}}
`

func TestEnvironment(t *testing.T) {
	o := rendered(t)
	c := &o.set.Spec.Template.Spec.Containers[0]
	o.data["ConfigMap/settings"] = map[string]string{"FROM_MAP": "map", "PATH": "/settings"}
	o.data["Secret/keys"] = map[string]string{"ONE": "1"}
	given := &corev1.Container{}
	if err := yaml.UnmarshalStrict([]byte(environmentText), given); err != nil {
		t.Fatal(err)
	}
	c.EnvFrom, c.Env = given.EnvFrom, given.Env
	o.set.Spec.Template.Annotations = map[string]string{"a/note": "noted"}
	p := &pod{
		set: &set{objects: o}, name: "node-0", ip: "10.0.0.1", template: &o.set.Spec.Template,
		labels: map[string]string{"zone": "a"},
	}
	got, err := o.environment(map[string]string{"PATH": "/", "IMAGE": "i"}, p)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"PATH": "/settings", "IMAGE": "i", "HOSTNAME": "node-0", "KEY_ONE": "1", "A": "map-node-0",
		"FROM_MAP": "again map-node-0 $(A) $(LATER) $A", "LATER": "later", "POD": "node-0", "IP": "10.0.0.1",
		"ZONE": "a", "NOTE": "noted", "ONE": "1",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	for what, change := range map[string]func(){
		"no such field":  func() { c.Env = []corev1.EnvVar{fieldRef("status.hostIP")} },
		"no such object": func() { delete(o.data, "ConfigMap/settings") },
	} {
		change()
		if _, err := o.environment(map[string]string{}, p); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

func fieldRef(path string) corev1.EnvVar {
	return corev1.EnvVar{Name: "X", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
}

func TestUnsupportedIsRefused(t *testing.T) {
	for what, change := range map[string]func(*corev1.PodSpec){
		"a sidecar": func(s *corev1.PodSpec) { s.Containers = append(s.Containers, corev1.Container{}) },
		"a gRPC probe": func(s *corev1.PodSpec) {
			s.Containers[0].LivenessProbe.ProbeHandler = corev1.ProbeHandler{GRPC: &corev1.GRPCAction{}}
		},
		"a volume of the machine": func(s *corev1.PodSpec) {
			s.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{}}}}
		},
	} {
		o := rendered(t)
		change(&o.set.Spec.Template.Spec)
		if supported(&o.set.Spec) == nil {
			t.Errorf("%s is not refused", what)
		}
	}
	if _, err := parse([]byte("kind: StatefulSet\nspec: {replica: 3}")); err == nil {
		t.Error("a misspelt field is not refused")
	}
}
