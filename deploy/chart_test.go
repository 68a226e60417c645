package deploy_test

import (
	"maps"
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
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"

	"github.com/org/envoy-control-plane/deploy/bootstrap"
	"github.com/org/envoy-control-plane/deploy/local"
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
		if got := environment(t, all, podName(set, 0))["GOMEMLIMIT"]; got != want {
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

// TestChartLetsPassWhatIsNamed: everything is denied, Raft and gossip are for
// nodes alone, and each port of a node has a rule.
func TestChartLetsPassWhatIsNamed(t *testing.T) {
	for _, file := range []string{"default", "five", "everything"} {
		all := render(t, "helm/cases/"+file+".yaml")
		deny := only[networkingv1.NetworkPolicy](t, all, "NetworkPolicy/envoy-control-default-deny").Spec
		if len(deny.Ingress) != 0 || len(deny.Egress) != 0 || len(deny.PolicyTypes) != 2 {
			t.Errorf("%s: by default passes %+v", file, deny)
		}
		for name, pod := range pods(all) {
			if !maps.Equal(deny.PodSelector.MatchLabels, overlap(deny.PodSelector.MatchLabels, pod.Labels)) {
				t.Errorf("%s: %s is not denied by default", file, name)
			}
		}
		set, c := nodes(t, all)
		rules := only[networkingv1.NetworkPolicy](t, all, "NetworkPolicy/envoy-control-networkpolicy").Spec
		open := map[string][]networkingv1.NetworkPolicyPeer{}
		for _, rule := range rules.Ingress {
			if len(rule.From) == 0 {
				t.Errorf("%s: anybody reaches %v", file, rule.Ports)
			}
			for _, p := range rule.Ports {
				open[p.Port.StrVal] = append(open[p.Port.StrVal], rule.From...)
			}
		}
		for _, p := range c.Ports {
			from := open[p.Name]
			if len(from) == 0 {
				t.Errorf("%s: nobody reaches %s", file, p.Name)
			}
			inside := p.Name == "raft" || strings.HasPrefix(p.Name, "gossip")
			if inside && (len(from) != 1 || !maps.Equal(from[0].PodSelector.MatchLabels, set.Spec.Selector.MatchLabels) || from[0].NamespaceSelector != nil) {
				t.Errorf("%s: %s is open to %+v", file, p.Name, from)
			}
		}
	}
}

// TestChartFrontsTheAPI: the Ingress has TLS and a limit that its controller
// knows, and leads to the API.
func TestChartFrontsTheAPI(t *testing.T) {
	all := render(t, "helm/plain.yaml")
	ingress := only[networkingv1.Ingress](t, all, "Ingress/api-ingress")
	if ingress.Annotations["nginx.ingress.kubernetes.io/limit-rps"] != "100" {
		t.Errorf("no limit in %v", ingress.Annotations)
	}
	for _, rule := range ingress.Spec.Rules {
		if !slices.ContainsFunc(ingress.Spec.TLS, func(tls networkingv1.IngressTLS) bool { return slices.Contains(tls.Hosts, rule.Host) }) {
			t.Errorf("%s is served without TLS", rule.Host)
		}
		for _, path := range rule.HTTP.Paths {
			to := path.Backend.Service
			svc := only[corev1.Service](t, all, "Service/"+to.Name)
			if !slices.ContainsFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == to.Port.Name && p.TargetPort.StrVal == "http" }) {
				t.Errorf("%s leads to %+v", path.Path, to)
			}
		}
	}
}

// TestChartBootstraps: the bootstraps are those of `ecpctl bootstrap` but for who
// the proxy is, and Envoy takes them when it is told.
func TestChartBootstraps(t *testing.T) {
	envoy, err := local.FindEnvoy()
	if err != nil {
		t.Fatal(err)
	}
	all := render(t, "helm/cases/everything.yaml")
	data := only[corev1.ConfigMap](t, all, "ConfigMap/envoy-control-bootstrap").Data
	for name, at := range map[string]string{
		"bootstrap.yaml": "envoy-control.envoy-control.svc:18000", "bootstrap-external.yaml": "xds.example.com:18000",
	} {
		full, err := bootstrap.Envoy(bootstrap.Options{Proxy: "p", Fleet: "f", XDS: []string{at}})
		if err != nil {
			t.Fatal(err)
		}
		var want, have map[string]any
		if err := yaml.Unmarshal(full, &want); err != nil {
			t.Fatal(err)
		}
		if err := yaml.UnmarshalStrict([]byte(data[name]), &have); err != nil {
			t.Fatal(err)
		}
		delete(want["node"].(map[string]any), "id")
		delete(want["node"].(map[string]any), "cluster")
		if a, b := asYAML(t, have), asYAML(t, want); a != b {
			t.Errorf("%s is\n%s\nwant\n%s", name, a, b)
		}
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(data[name]), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(envoy, "--mode", "validate", "-l", "warn", "-c", file, "--service-node", "p", "--service-cluster", "f").CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func asYAML(t *testing.T, v any) string {
	t.Helper()
	out, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestChartHasTheRules: the chart's copy is that of the monitoring, and each file
// becomes an object of the operator.
func TestChartHasTheRules(t *testing.T) {
	theirs, ours := files(t, "monitoring/rules"), files(t, chart+"/files/rules")
	for name := range with(theirs, ours) {
		if theirs[name] != ours[name] {
			t.Errorf("%s differs between monitoring/rules and the chart's files/rules: run make manifests", name)
		}
	}
	all := render(t, "helm/cases/everything.yaml")
	for name, text := range ours {
		var want map[string]any
		if err := yaml.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		rule := *only[map[string]any](t, all, "PrometheusRule/envoy-control-"+strings.TrimSuffix(name, ".yaml"))
		if a, b := asYAML(t, rule["spec"]), asYAML(t, want); a != b {
			t.Errorf("%s became\n%s", name, a)
		}
	}
	monitor := *only[map[string]any](t, all, "ServiceMonitor/envoy-control")
	var selector struct {
		Spec struct {
			Selector  struct{ MatchLabels map[string]string }
			Endpoints []struct {
				Port        string
				Relabelings []struct {
					TargetLabel  string
					Replacement  string
					SourceLabels []string
				}
			}
		}
	}
	if err := yaml.Unmarshal([]byte(asYAML(t, monitor)), &selector); err != nil {
		t.Fatal(err)
	}
	var found []string
	each(all, func(name string, s *corev1.Service) {
		if labels := selector.Spec.Selector.MatchLabels; maps.Equal(labels, overlap(labels, s.Labels)) {
			found = append(found, name)
		}
	})
	if !slices.Equal(found, []string{"Service/envoy-control-api"}) || selector.Spec.Endpoints[0].Port != "metrics" {
		t.Errorf("metrics are scraped at %v, %+v", found, selector.Spec.Endpoints)
	}
	// What monitoring/prometheus does, rules and adapter rely on.
	if r := selector.Spec.Endpoints[0].Relabelings; len(r) != 2 || !strings.HasPrefix(r[0].Replacement, "envoy-control-plane") || r[0].TargetLabel != "job" ||
		r[1].TargetLabel != "instance" || !slices.Equal(r[1].SourceLabels, []string{"__meta_kubernetes_pod_name"}) {
		t.Errorf("series are labelled by %+v", r)
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
	env := environment(t, all, podName(set, 0))
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
