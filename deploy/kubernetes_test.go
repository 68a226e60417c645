package deploy_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// files returns the names and texts of a folder's files.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(path)] = string(text)
	}
	return out
}

// TestManifestsAreTheCharts: deploy/k8s is what `make manifests` renders.
func TestManifestsAreTheCharts(t *testing.T) {
	path, err := helm()
	if err != nil {
		t.Fatalf("build Helm: %v", err)
	}
	dir := t.TempDir()
	cmd := exec.Command("helm/render.sh", dir)
	cmd.Env = append(os.Environ(), "HELM="+path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want, have := files(t, dir), files(t, "k8s")
	for name := range with(want, have) {
		if have[name] != want[name] {
			t.Errorf("k8s/%s is not what the chart makes: run make manifests, and commit", name)
		}
	}
	if len(want) < 10 {
		t.Errorf("only %v are rendered", slices.Sorted(maps.Keys(want)))
	}
}

func TestManifestsKeepTheirNames(t *testing.T) {
	all := render(t, "helm/plain.yaml")
	for _, name := range []string{
		"Namespace/envoy-control", "ConfigMap/envoy-control-config", "StatefulSet/api-server", "Service/api-server",
		"Service/api-service", "Service/xds-service", "NetworkPolicy/api-server-network-policy",
		"PodDisruptionBudget/api-server", "HorizontalPodAutoscaler/api-server-hpa", "Ingress/api-ingress",
	} {
		if all[name] == nil {
			t.Errorf("there is no %s, only %v", name, slices.Sorted(maps.Keys(all)))
		}
	}
}

// TestKubernetesNodesFitTheBinary: the node takes every setting, and misses
// nothing but what the secret has.
func TestKubernetesNodesFitTheBinary(t *testing.T) {
	forEachCase(t, func(t *testing.T, all objects) {
		set, c := nodes(t, all)
		env := podEnvironment(t, all, podName(set, 0))
		delete(env, "SECRETS_KEY_FILE") // there is none here
		if wrong := mistakes(t, c.Args, env); len(wrong) != 1 || !strings.Contains(wrong[0], "JWT_SECRET") {
			t.Errorf("without JWT_SECRET serve finds wrong:\n%s", strings.Join(wrong, "\n"))
		}
		env["JWT_SECRET"] = strings.Repeat("s", 64)
		checkNode(t, c.Args, env)
	})
}

func TestKubernetesSecretOfTheExample(t *testing.T) {
	secret := only[corev1.Secret](t, decode(t, files(t, "k8s/example")["secret.yaml"]), "Secret/envoy-control-secrets")
	_, c := nodes(t, render(t, "helm/plain.yaml"))
	if !slices.ContainsFunc(c.EnvFrom, func(e corev1.EnvFromSource) bool { return e.SecretRef != nil && e.SecretRef.Name == secret.Name }) {
		t.Errorf("the nodes do not take the secret %s: %+v", secret.Name, c.EnvFrom)
	}
	checkNode(t, c.Args, with(secret.StringData, map[string]string{"JWT_SECRET": strings.Repeat("s", 64)}))
}

// TestKubernetesOrdinalsDecideWhoVotes: the first pods, and no other, are the
// initial members, which alone vote (TestInitialMembersVote of the binary); they
// are always there; and every pod can be reached under its own name.
func TestKubernetesOrdinalsDecideWhoVotes(t *testing.T) {
	for file, voters := range map[string]int{"helm/cases/default.yaml": 3, "helm/cases/five.yaml": 5, "helm/plain.yaml": 3} {
		all := render(t, file)
		set, _ := nodes(t, all)
		domain := set.Spec.ServiceName + "." + set.Namespace + ".svc"
		var members []string
		for i := range voters {
			members = append(members, podName(set, i))
		}
		for ordinal := range voters + 2 {
			name := podName(set, ordinal)
			env := podEnvironment(t, all, name)
			for variable, want := range map[string]string{
				"VOTER": "initial", "INITIAL_MEMBERS": strings.Join(members, ","), "BOOTSTRAP_EXPECT": strconv.Itoa(voters),
				"NODE_ID": name, "ADVERTISE_ADDR": name + "." + domain, "JOIN": domain,
			} {
				if env[variable] != want {
					t.Errorf("%s: %s is %q, want %q", file, variable, env[variable], want)
				}
			}
		}
		headless := only[corev1.Service](t, all, "Service/"+set.Spec.ServiceName)
		if headless.Spec.ClusterIP != "None" || !headless.Spec.PublishNotReadyAddresses {
			t.Errorf("%s: the nodes' service must be headless and publish nodes that are not ready", file)
		}
		if set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement {
			t.Errorf("%s: pods start %s", file, set.Spec.PodManagementPolicy)
		}
	}
}

func TestKubernetesPortsAgree(t *testing.T) {
	forEachCase(t, func(t *testing.T, all objects) {
		set, c := nodes(t, all)
		env := podEnvironment(t, all, podName(set, 0))
		ports := map[string]int32{}
		for _, p := range c.Ports {
			ports[p.Name] = p.ContainerPort
		}
		for variable, name := range map[string]string{
			"SERVER_PORT": "http", "METRICS_PORT": "metrics", "GRPC_PORT": "grpc-xds", "RAFT_PORT": "raft", "GOSSIP_PORT": "gossip",
		} {
			if got := strconv.Itoa(int(ports[name])); got != env[variable] {
				t.Errorf("the container's port %s is %s, %s is %s", name, got, variable, env[variable])
			}
		}
		for path, p := range map[string]*corev1.Probe{"/health": c.LivenessProbe, "/health ": c.StartupProbe, "/ready": c.ReadinessProbe} {
			if p == nil || p.HTTPGet == nil || p.HTTPGet.Path != strings.TrimSpace(path) || p.HTTPGet.Port != intstr.FromString("http") {
				t.Errorf("a probe is %v, want it to ask %s on http", p, path)
			}
		}
		each(all, func(name string, s *corev1.Service) {
			for _, p := range s.Spec.Ports {
				to := selected(all, s.Spec.Selector)
				if len(to) != 1 || !slices.ContainsFunc(to[0].Spec.Containers[0].Ports, func(c corev1.ContainerPort) bool {
					return c.Name == p.TargetPort.StrVal && (s.Spec.ClusterIP != "None" || c.ContainerPort == p.Port)
				}) {
					t.Errorf("%s: port %d leads to %s, which its pods have not as that", name, p.Port, p.TargetPort.StrVal)
				}
			}
		})
	})
}

// selected returns the pods with all of some labels.
func selected(all objects, labels map[string]string) []*corev1.PodTemplateSpec {
	var out []*corev1.PodTemplateSpec
	for _, pod := range pods(all) {
		if maps.Equal(labels, overlap(labels, pod.Labels)) {
			out = append(out, pod)
		}
	}
	return out
}

func overlap(a, b map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range a {
		if b[k] == v {
			out[k] = v
		}
	}
	return out
}

// TestKubernetesSelectorsFindTheirPods: StatefulSets, budgets and spreads are
// each about one set of pods, their own.
func TestKubernetesSelectorsFindTheirPods(t *testing.T) {
	forEachCase(t, func(t *testing.T, all objects) {
		check := func(name string, selector *metav1.LabelSelector, want *corev1.PodTemplateSpec) {
			if got := selected(all, selector.MatchLabels); len(got) != 1 || want != nil && got[0] != want {
				t.Errorf("%s selects %d sets of pods", name, len(got))
			}
		}
		each(all, func(name string, s *appsv1.StatefulSet) {
			check(name, s.Spec.Selector, &s.Spec.Template)
			for _, c := range s.Spec.Template.Spec.TopologySpreadConstraints {
				check(name, c.LabelSelector, &s.Spec.Template)
			}
			if svc := only[corev1.Service](t, all, "Service/"+s.Spec.ServiceName); len(selected(all, svc.Spec.Selector)) != 1 {
				t.Errorf("%s: its service selects others", name)
			}
		})
		each(all, func(name string, b *policyv1.PodDisruptionBudget) {
			check(name, b.Spec.Selector, nil)
			if b.Spec.MaxUnavailable == nil || b.Spec.MaxUnavailable.IntValue() != 1 {
				t.Errorf("%s lets %v pods go at once", name, b.Spec.MaxUnavailable)
			}
		})
		set, _ := nodes(t, all)
		only[policyv1.PodDisruptionBudget](t, all, "PodDisruptionBudget/"+set.Name)
		var spread []string
		for _, c := range set.Spec.Template.Spec.TopologySpreadConstraints {
			spread = append(spread, c.TopologyKey)
		}
		if !slices.Equal(spread, []string{"topology.kubernetes.io/zone", "kubernetes.io/hostname"}) {
			t.Errorf("nodes are spread over %v", spread)
		}
	})
}

// TestKubernetesLetsANodeDrain: the pause before SIGTERM and the node's own
// bound on draining fit into the grace period, with time to spare.
func TestKubernetesLetsANodeDrain(t *testing.T) {
	const reserve = 10 * time.Second
	forEachCase(t, func(t *testing.T, all objects) {
		set, c := nodes(t, all)
		if c.Lifecycle == nil || c.Lifecycle.PreStop == nil || c.Lifecycle.PreStop.Sleep == nil || c.Lifecycle.PreStop.Sleep.Seconds == 0 {
			t.Fatal("load balancers get no time to hear that the pod goes")
		}
		pause := time.Duration(c.Lifecycle.PreStop.Sleep.Seconds) * time.Second
		drain, err := time.ParseDuration(podEnvironment(t, all, podName(set, 0))["STOP_TIMEOUT"])
		if err != nil {
			t.Fatal(err)
		}
		grace := time.Duration(*set.Spec.Template.Spec.TerminationGracePeriodSeconds) * time.Second
		if pause+drain+reserve > grace {
			t.Errorf("a pause of %s and a drain of %s do not fit into %s", pause, drain, grace)
		}
	})
}

// TestKubernetesDataIsOnAVolume that outlives the pod, and is as long kept as the
// cluster remembers the node.
func TestKubernetesDataIsOnAVolume(t *testing.T) {
	forEachCase(t, func(t *testing.T, all objects) {
		set, c := nodes(t, all)
		env := podEnvironment(t, all, podName(set, 0))
		mount := slices.IndexFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == env["DATA_DIR"] })
		if mount < 0 || len(set.Spec.VolumeClaimTemplates) != 1 || set.Spec.VolumeClaimTemplates[0].Name != c.VolumeMounts[mount].Name {
			t.Errorf("DATA_DIR is %q, mounted are %v", env["DATA_DIR"], c.VolumeMounts)
		}
		kept := set.Spec.PersistentVolumeClaimRetentionPolicy
		if kept.WhenDeleted != appsv1.RetainPersistentVolumeClaimRetentionPolicyType {
			t.Error("the volumes go with the StatefulSet")
		}
		// A node that was forgotten does not come back with its old data.
		if retained := kept.WhenScaled == appsv1.RetainPersistentVolumeClaimRetentionPolicyType; retained != (env["FORGET_AFTER"] == "0") {
			t.Errorf("volumes of pods scaled away: %s, nodes are forgotten after %q", kept.WhenScaled, env["FORGET_AFTER"])
		}
	})
}
