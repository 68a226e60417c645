package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// TestChartPodsAreRestricted: every pod satisfies the restricted pod security
// standard, and besides writes to its volumes alone and has no token.
func TestChartPodsAreRestricted(t *testing.T) {
	forEachCase(t, func(t *testing.T, all objects) {
		for name, pod := range pods(all) {
			s := pod.Spec.SecurityContext
			if s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.RunAsUser == nil || *s.RunAsUser == 0 ||
				s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Errorf("%s: the pod may be root's, or do any system call: %+v", name, s)
			}
			if pod.Spec.AutomountServiceAccountToken == nil || *pod.Spec.AutomountServiceAccountToken {
				t.Errorf("%s has a token of Kubernetes", name)
			}
			if pod.Spec.HostNetwork || pod.Spec.HostPID || pod.Spec.HostIPC {
				t.Errorf("%s is in the host's namespaces", name)
			}
			for _, v := range pod.Spec.Volumes {
				if v.HostPath != nil {
					t.Errorf("%s mounts the host's %s", name, v.HostPath.Path)
				}
			}
			for _, c := range containers(pod) {
				s := c.SecurityContext
				if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.ReadOnlyRootFilesystem == nil ||
					!*s.ReadOnlyRootFilesystem || s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
					t.Errorf("%s: %s: %+v", name, c.Name, s)
				}
				if strings.HasSuffix(c.Image, ":latest") || !strings.ContainsAny(c.Image, ":@") {
					t.Errorf("%s: %s: no version is pinned by %s", name, c.Name, c.Image)
				}
			}
		}
	})
}

// TestChartMemoryLimits: Go's collector knows nine tenths of the limit.
func TestChartMemoryLimits(t *testing.T) {
	for file, want := range map[string]string{"default": "1843MiB", "everything": "5529MiB"} {
		all := render(t, "helm/cases/"+file+".yaml")
		set, _ := nodes(t, all)
		if got := podEnvironment(t, all, podName(set, 0))["GOMEMLIMIT"]; got != want {
			t.Errorf("%s: GOMEMLIMIT is %s, want %s", file, got, want)
		}
	}
}

// TestChartScales: between 3 and 20, on what is measured, down slowly; the number
// of pods is then nobody else's to say.
func TestChartScales(t *testing.T) {
	all := render(t, "helm/cases/default.yaml")
	set, c := nodes(t, all)
	if set.Spec.Replicas != nil {
		t.Errorf("beside the autoscaler the StatefulSet asks for %d pods", *set.Spec.Replicas)
	}
	hpa := only[autoscalingv2.HorizontalPodAutoscaler](t, all, "HorizontalPodAutoscaler/envoy-control-hpa").Spec
	if hpa.ScaleTargetRef.Kind != "StatefulSet" || hpa.ScaleTargetRef.Name != set.Name || *hpa.MinReplicas != 3 || hpa.MaxReplicas != 20 {
		t.Errorf("the autoscaler has %v to %d of %+v", *hpa.MinReplicas, hpa.MaxReplicas, hpa.ScaleTargetRef)
	}
	down := hpa.Behavior.ScaleDown
	if len(down.Policies) != 1 || down.Policies[0].Type != autoscalingv2.PodsScalingPolicy || down.Policies[0].Value != 1 || down.Policies[0].PeriodSeconds < 120 {
		t.Errorf("it scales down by %+v", down.Policies)
	}
	if _, ok := c.Resources.Requests[corev1.ResourceCPU]; !ok {
		t.Error("without a request there is no percentage of the processor")
	}
	want := []string{"cpu", "ecp_xds_streams", "http_requests_per_second"}
	if got := triggers(hpa.Metrics); !slices.Equal(got, want) {
		t.Errorf("it looks at %v, want %v", got, want)
	}
	everything := render(t, "helm/cases/everything.yaml")
	hpa = only[autoscalingv2.HorizontalPodAutoscaler](t, everything, "HorizontalPodAutoscaler/envoy-control-hpa").Spec
	if got := triggers(hpa.Metrics); !slices.Contains(got, "memory") {
		t.Errorf("memory was asked for, it looks at %v", got)
	}
	fixed := render(t, "helm/cases/five.yaml")
	if set, _ := nodes(t, fixed); set.Spec.Replicas == nil || *set.Spec.Replicas != 7 || fixed["HorizontalPodAutoscaler/envoy-control-hpa"] != nil {
		t.Error("without the autoscaler there are not 7 pods")
	}
}

func triggers(metrics []autoscalingv2.MetricSpec) []string {
	var out []string
	for _, m := range metrics {
		if m.Resource != nil {
			out = append(out, string(m.Resource.Name))
		}
		if m.Pods != nil {
			out = append(out, m.Pods.Metric.Name)
		}
	}
	slices.Sort(out)
	return out
}

// TestChartAdapterMakesTheMetrics that the autoscaler looks at, of metrics that
// the nodes have.
func TestChartAdapterMakesTheMetrics(t *testing.T) {
	all := render(t, "helm/cases/default.yaml")
	var config struct {
		Rules []struct {
			SeriesQuery, MetricsQuery string
			Resources                 struct {
				Overrides map[string]struct{ Resource string }
			}
			Name struct{ As string }
		}
	}
	text := only[corev1.ConfigMap](t, all, "ConfigMap/envoy-control-adapter-rules").Data["config.yaml"]
	if err := yaml.UnmarshalStrict([]byte(text), &config); err != nil {
		t.Fatal(err)
	}
	sources, err := exec.Command("grep", "-rhoE", `"(http|ecp)_[a-z_]+"`, "--include=metrics.go", "../api", "../xds").Output()
	if err != nil {
		t.Fatal(err)
	}
	var made []string
	for _, rule := range config.Rules {
		made = append(made, rule.Name.As)
		series, _, _ := strings.Cut(rule.SeriesQuery, "{")
		if !strings.Contains(string(sources), `"`+series+`"`) {
			t.Errorf("the nodes have no metric %s", series)
		}
		if rule.Resources.Overrides["instance"].Resource != "pod" || rule.Resources.Overrides["namespace"].Resource != "namespace" ||
			!strings.Contains(rule.MetricsQuery, "by (<<.GroupBy>>)") {
			t.Errorf("%s is not counted by pod: %+v", series, rule)
		}
	}
	for _, name := range triggers(only[autoscalingv2.HorizontalPodAutoscaler](t, all, "HorizontalPodAutoscaler/envoy-control-hpa").Spec.Metrics) {
		if name != "cpu" && !slices.Contains(made, name) {
			t.Errorf("no rule makes %s", name)
		}
	}
}

// TestChartLowersVoters: before an upgrade to three voters the pods behind them
// are asked to give up their votes, by commands that the image has.
func TestChartLowersVoters(t *testing.T) {
	all := render(t, "helm/cases/default.yaml")
	job := only[batchv1.Job](t, all, "Job/envoy-control-voters")
	if hook := job.Annotations["helm.sh/hook"]; !strings.Contains(hook, "pre-upgrade") {
		t.Errorf("the hook is %q", hook)
	}
	pod := job.Spec.Template.Spec
	args := pod.Containers[0].Args
	if got := args[len(args)-2:]; !slices.Equal(got, []string{"envoy-control-3", "envoy-control-4"}) {
		t.Errorf("asked are %v", got)
	}
	open := only[batchv1.Job](t, render(t, "helm/cases/little.yaml", "config.INSECURE=true"), "Job/envoy-control-voters").Spec.Template.Spec
	if len(open.InitContainers) != 0 || strings.Contains(strings.Join(open.Containers[0].Args, " "), "token") {
		t.Errorf("without authentication there is no secret for a token, and yet the hook wants one: %v", open.Containers[0].Args)
	}
	if render(t, "helm/cases/five.yaml")["Job/envoy-control-voters"] != nil {
		t.Error("five voters are as many as there can be, and yet some are asked to go")
	}

	dir := t.TempDir()
	file := filepath.Join(dir, "token")
	in := func(args []string) []string {
		out := slices.Clone(args)
		for i := range out {
			out[i] = strings.ReplaceAll(out[i], "/run/token/token", file)
		}
		return out
	}
	ecpctl := filepath.Join(dir, "ecpctl")
	if out, err := exec.Command("go", "build", "-o", ecpctl, "../cmd/ecpctl").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	token := exec.Command(ecpctl, in(pod.InitContainers[0].Command[1:])...)
	token.Env = append(os.Environ(), "JWT_SECRET="+strings.Repeat("s", 64))
	if out, err := token.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// Nobody answers: exit code 1. A command line that is not understood: 2.
	demote := exec.Command(ecpctl, append(in(args), "--timeout=10ms")...)
	if out, err := demote.CombinedOutput(); demote.ProcessState.ExitCode() != 1 {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestChartSecretsComeFromSecrets: nothing secret stands in what is rendered.
func TestChartSecretsComeFromSecrets(t *testing.T) {
	secret := regexp.MustCompile(`(?i)password|secret$|access_key`)
	forEachCase(t, func(t *testing.T, all objects) {
		each(all, func(name string, _ *corev1.Secret) { t.Errorf("%s is rendered", name) })
		for name, pod := range pods(all) {
			for _, c := range containers(pod) {
				for _, v := range c.Env {
					if secret.MatchString(v.Name) && (v.ValueFrom == nil || v.ValueFrom.SecretKeyRef == nil) {
						t.Errorf("%s: %s does not come from a secret", name, v.Name)
					}
				}
			}
		}
	})
}

// TestChartPostgres: nodes write to the primary and read from the replicas, which
// copy the primary.
func TestChartPostgres(t *testing.T) {
	all := render(t, "helm/cases/everything.yaml")
	set, _ := nodes(t, all)
	env := podEnvironment(t, all, podName(set, 0))
	for variable, service := range map[string]string{"DATABASE_URL": "envoy-control-postgresql", "DATABASE_READ_URL": "envoy-control-postgresql-read"} {
		only[corev1.Service](t, all, "Service/"+service)
		if want := "postgres://envoy_control@" + service + ".envoy-control.svc:5432/envoy_control?sslmode=disable"; env[variable] != want {
			t.Errorf("%s is %q, want %q", variable, env[variable], want)
		}
	}
	read := only[appsv1.StatefulSet](t, all, "StatefulSet/envoy-control-postgresql-read")
	if *read.Spec.Replicas != 2 || len(read.Spec.Template.Spec.InitContainers) != 1 {
		t.Errorf("%d read replicas", *read.Spec.Replicas)
	}
	if all := render(t, "helm/cases/everything.yaml", "postgresql.readReplicas.replicaCount=0"); all["StatefulSet/envoy-control-postgresql-read"] != nil {
		t.Error("there are replicas, but none was asked for")
	}
}
