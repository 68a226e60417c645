package deploy_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"

	"github.com/org/envoy-control-plane/deploy/bootstrap"
	"github.com/org/envoy-control-plane/deploy/local"
)

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
