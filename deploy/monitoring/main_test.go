// Package monitoring_test holds the rules and dashboards against the real
// thing: promtool, and a Prometheus that scrapes a cluster under load.
package monitoring_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/org/envoy-control-plane/deploy/local"
)

// Where the binaries under test and Debian's programs are.
var nodeBinary, ecpctl, prometheus, promtool, amtool string

func TestMain(m *testing.M) {
	os.Exit(local.RunTests(m, func(ctx context.Context, dir string) error {
		var errs [3]error
		prometheus, errs[0] = local.FindDebian(ctx, "prometheus", "prometheus")
		promtool, errs[1] = local.FindDebian(ctx, "promtool", "prometheus")
		amtool, errs[2] = local.FindDebian(ctx, "amtool", "prometheus-alertmanager")
		nodeBinary, ecpctl = filepath.Join(dir, "envoy-control-plane"), filepath.Join(dir, "ecpctl")
		return errors.Join(errs[0], errs[1], errs[2], local.Build(dir, "../../cmd/envoy-control-plane", "../../cmd/ecpctl"))
	}))
}

// tool runs one and fails the test unless it says yes.
func tool(t *testing.T, path string, args ...string) string {
	t.Helper()
	var out, errs strings.Builder
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", filepath.Base(path), strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String()
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", pattern, len(files), err)
	}
	return files
}

func readYAML(t *testing.T, path string, into any) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err == nil {
		err = yaml.UnmarshalStrict(raw, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
