package deploy_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// object is what is checked of any Kubernetes object.
type object struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
	Data       map[string]string `json:"data"`
	StringData map[string]string `json:"stringData"`
	Spec       struct {
		Replicas    int    `json:"replicas"`
		ServiceName string `json:"serviceName"`
		// Selector is a map of labels in services, and one level deeper
		// elsewhere.
		Selector map[string]any `json:"selector"`
		Ports    []struct {
			Name       string `json:"name"`
			Port       int    `json:"port"`
			TargetPort string `json:"targetPort"`
			Protocol   string `json:"protocol"`
		} `json:"ports"`
		Template struct {
			Metadata struct {
				Labels map[string]string `json:"labels"`
			} `json:"metadata"`
			Spec podSpec `json:"spec"`
		} `json:"template"`
	} `json:"spec"`
}

type podSpec struct {
	Grace      int         `json:"terminationGracePeriodSeconds"`
	Containers []container `json:"containers"`
}

type probe struct {
	HTTPGet struct {
		Path string `json:"path"`
		Port string `json:"port"`
	} `json:"httpGet"`
}

type container struct {
	Args    []string `json:"args"`
	EnvFrom []struct {
		ConfigMapRef, SecretRef struct {
			Name string `json:"name"`
		}
	} `json:"envFrom"`
	Env []struct {
		Name      string `json:"name"`
		Value     string `json:"value"`
		ValueFrom struct {
			FieldRef struct {
				FieldPath string `json:"fieldPath"`
			} `json:"fieldRef"`
		} `json:"valueFrom"`
	} `json:"env"`
	Ports []struct {
		Name          string `json:"name"`
		ContainerPort int    `json:"containerPort"`
		Protocol      string `json:"protocol"`
	} `json:"ports"`
	StartupProbe, LivenessProbe, ReadinessProbe probe

	Lifecycle struct {
		PreStop struct {
			Sleep struct {
				Seconds int `json:"seconds"`
			} `json:"sleep"`
		} `json:"preStop"`
	} `json:"lifecycle"`
	VolumeMounts []struct {
		MountPath string `json:"mountPath"`
	} `json:"volumeMounts"`
}

// manifests are the objects of deploy/k8s by kind and name.
func manifests(t *testing.T) map[string]object {
	t.Helper()
	files, err := filepath.Glob("k8s/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]object{}
	for _, file := range append(files, "k8s/example/secret.yaml") {
		for _, o := range readYAML[object](t, file) {
			found[o.Kind+"/"+o.Metadata.Name] = o
		}
	}
	return found
}

const (
	statefulSet = "StatefulSet/api-server"
	configMap   = "ConfigMap/envoy-control-config"
	secret      = "Secret/envoy-control-secrets"
)

// podEnvironment is what the first pod's container gets.
func podEnvironment(t *testing.T, all map[string]object) map[string]string {
	t.Helper()
	set := all[statefulSet]
	c := set.Spec.Template.Spec.Containers[0]
	env := map[string]string{}
	for _, from := range c.EnvFrom {
		switch {
		case from.ConfigMapRef.Name != "":
			env = with(env, all["ConfigMap/"+from.ConfigMapRef.Name].Data)
		case from.SecretRef.Name != "":
			env = with(env, all["Secret/"+from.SecretRef.Name].StringData)
		}
	}
	for _, v := range c.Env {
		value := v.Value
		if v.ValueFrom.FieldRef.FieldPath == "metadata.name" {
			value = set.Metadata.Name + "-0"
		}
		for name, earlier := range env {
			value = strings.ReplaceAll(value, "$("+name+")", earlier)
		}
		env[v.Name] = value
	}
	return env
}

func TestKubernetesNodesFitTheBinary(t *testing.T) {
	all := manifests(t)
	env := podEnvironment(t, all)
	args := all[statefulSet].Spec.Template.Spec.Containers[0].Args
	if wrong := mistakes(t, args, env); len(wrong) != 1 || !strings.Contains(wrong[0], "JWT_SECRET") {
		t.Errorf("with the example's empty JWT_SECRET serve finds wrong:\n%s", strings.Join(wrong, "\n"))
	}
	env["JWT_SECRET"] = strings.Repeat("s", 64)
	checkNode(t, args, env)
}

func TestKubernetesNodesFindEachOther(t *testing.T) {
	all := manifests(t)
	set, env := all[statefulSet], podEnvironment(t, all)
	domain := fmt.Sprintf("%s.%s.svc", set.Spec.ServiceName, set.Metadata.Namespace)
	var names []string
	for i := range set.Spec.Replicas {
		names = append(names, set.Metadata.Name+"-"+strconv.Itoa(i))
	}
	for name, want := range map[string]string{
		"JOIN": domain, "ADVERTISE_ADDR": names[0] + "." + domain, "NODE_ID": names[0],
		"INITIAL_MEMBERS": strings.Join(names, ","), "BOOTSTRAP_EXPECT": strconv.Itoa(len(names)),
	} {
		if env[name] != want {
			t.Errorf("%s is %q, want %q", name, env[name], want)
		}
	}
	if _, ok := all["Service/"+set.Spec.ServiceName]; !ok {
		t.Errorf("there is no service %s", set.Spec.ServiceName)
	}
}

func TestKubernetesPortsAgree(t *testing.T) {
	all := manifests(t)
	c, config := all[statefulSet].Spec.Template.Spec.Containers[0], all[configMap].Data
	ports := map[string]int{}
	for _, p := range c.Ports {
		ports[p.Name] = p.ContainerPort
	}
	for variable, name := range map[string]string{
		"SERVER_PORT": "http", "METRICS_PORT": "metrics", "GRPC_PORT": "grpc-xds", "RAFT_PORT": "raft", "GOSSIP_PORT": "gossip",
	} {
		if got := strconv.Itoa(ports[name]); got != config[variable] {
			t.Errorf("the container's port %s is %s, %s is %s", name, got, variable, config[variable])
		}
	}
	for name, o := range all {
		if o.Kind != "Service" {
			continue
		}
		for _, p := range o.Spec.Ports {
			if ports[p.TargetPort] != p.Port {
				t.Errorf("%s: port %d goes to %s, which is %d", name, p.Port, p.TargetPort, ports[p.TargetPort])
			}
		}
	}
	for path, p := range map[string]probe{
		"/health": c.LivenessProbe, "/health ": c.StartupProbe, "/ready": c.ReadinessProbe,
	} {
		if p.HTTPGet.Path != strings.TrimSpace(path) || p.HTTPGet.Port != "http" {
			t.Errorf("a probe asks %s on %s, want %s on http", p.HTTPGet.Path, p.HTTPGet.Port, path)
		}
	}
}

func TestKubernetesSelectorsMatchThePods(t *testing.T) {
	all := manifests(t)
	labels := all[statefulSet].Spec.Template.Metadata.Labels
	for name, o := range all {
		selector := o.Spec.Selector
		if nested, ok := selector["matchLabels"].(map[string]any); ok {
			selector = nested
		}
		for key, value := range selector {
			if labels[key] != value {
				t.Errorf("%s selects %s=%v, the pods have %q", name, key, value, labels[key])
			}
		}
	}
}

// TestKubernetesLetsANodeDrain: what happens before SIGTERM and the node's own
// bound on draining fit into the grace period.
func TestKubernetesLetsANodeDrain(t *testing.T) {
	const drain = 30 // seconds, the most that SIGTERM takes by default
	all := manifests(t)
	pod := all[statefulSet].Spec.Template.Spec
	pause := pod.Containers[0].Lifecycle.PreStop.Sleep.Seconds
	if pause == 0 || pause+drain >= pod.Grace {
		t.Errorf("a pause of %d s and a drain of %d s do not fit into %d s", pause, drain, pod.Grace)
	}
}

func TestKubernetesDataIsOnAVolume(t *testing.T) {
	all := manifests(t)
	var mounts []string
	for _, m := range all[statefulSet].Spec.Template.Spec.Containers[0].VolumeMounts {
		mounts = append(mounts, m.MountPath)
	}
	if dir := all[configMap].Data["DATA_DIR"]; !slices.Contains(mounts, dir) {
		t.Errorf("DATA_DIR is %q, mounted are %q", dir, mounts)
	}
}

func TestKubernetesKeepsItsNames(t *testing.T) {
	all := manifests(t)
	for _, name := range []string{
		"Namespace/envoy-control", configMap, secret, statefulSet, "Service/api-service", "Service/xds-service",
		"NetworkPolicy/api-server-network-policy", "PodDisruptionBudget/api-server",
	} {
		if _, ok := all[name]; !ok {
			t.Errorf("there is no %s, only %v", name, slices.Sorted(maps.Keys(all)))
		}
	}
}
