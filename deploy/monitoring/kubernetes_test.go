package monitoring_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/org/envoy-control-plane/deploy/local"
)

// TestKubernetesTargets has Prometheus relabel what Kubernetes would tell it of
// pods: Debian's is built without that discovery, and there is none here to ask.
func TestKubernetesTargets(t *testing.T) {
	t.Parallel() // Prometheus takes five seconds to hear of targets
	config := readConfig(t, "prometheus/kubernetes.yml")
	pod := func(name, port, portName, scrape string) object {
		const meta = "__meta_kubernetes_"
		return object{"targets": []string{"10.0.0.9:" + port}, "labels": object{
			meta + "pod_name": name, meta + "namespace": "envoy-control", meta + "pod_ip": "127.0.0.1",
			meta + "pod_container_port_number": port, meta + "pod_container_port_name": portName,
			meta + "pod_annotation_prometheus_io_scrape": scrape, meta + "pod_annotation_prometheus_io_port": "9090",
		}}
	}
	ours := jobOf(t, config, job)
	for _, j := range config["scrape_configs"].([]any) {
		j := j.(object)
		if _, ok := j["kubernetes_sd_configs"]; !ok {
			continue
		}
		delete(j, "kubernetes_sd_configs")
		delete(j, "tls_config") // of files that pods have
		delete(j, "authorization")
		j["static_configs"] = []any{object{"targets": []string{"127.0.0.1:1"}, "labels": object{
			"__meta_kubernetes_node_address_InternalIP": "127.0.0.1", "__meta_kubernetes_node_name": "host",
		}}}
	}
	green := pod("green-0", "9090", "metrics", "true")
	green["labels"].(object)["__meta_kubernetes_pod_label_app_kubernetes_io_instance"] = "green"
	ours["static_configs"] = []any{
		green,
		pod("api-server-0", "8080", "http", "true"), pod("api-server-0", "9090", "metrics", "true"),
		pod("api-server-1", "9090", "metrics", "true"), pod("other", "9090", "metrics", "false"), pod("quiet", "9090", "metrics", ""),
	}
	s := startPrometheus(t, config)
	want := map[string]string{
		job + " api-server-0": "http://127.0.0.1:9090/metrics", job + " api-server-1": "http://127.0.0.1:9090/metrics",
		job + "-green green-0": "http://127.0.0.1:9090/metrics", "node host": "http://127.0.0.1:9100/metrics",
	}
	local.Eventually(t, 20*time.Second, "targets", func() error {
		var answer struct {
			ActiveTargets []struct {
				Labels    map[string]string
				ScrapeURL string
			}
		}
		if err := s.get("/api/v1/targets", nil, &answer); err != nil {
			return err
		}
		got := map[string]string{}
		for _, target := range answer.ActiveTargets {
			if j := target.Labels["job"]; strings.HasPrefix(j, job) || j == "node" {
				got[j+" "+target.Labels["instance"]] = target.ScrapeURL
			}
		}
		if !maps.Equal(got, want) {
			return fmt.Errorf("they are\n%v, want\n%v", show(got), show(want))
		}
		return nil
	})
}

func show(m map[string]string) string {
	var lines []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		lines = append(lines, k+" "+m[k])
	}
	return strings.Join(lines, "\n")
}
