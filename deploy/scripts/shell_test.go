package scripts_test

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestShellcheck: all shell of the deployment, not these scripts alone.
func TestShellcheck(t *testing.T) {
	var files []string
	for _, pattern := range []string{"*.sh", "../*/*.sh", "../compose/try/*", "../../.ci/run"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) < 8 {
		t.Fatalf("only %v", files)
	}
	if out, err := exec.CommandContext(t.Context(), shellcheck, append([]string{"--external-sources"}, files...)...).CombinedOutput(); err != nil {
		t.Errorf("shellcheck: %v\n%s", err, out)
	}
}

// TestScriptsHaveManners: strict mode, help without a cluster, and usage
// mistakes that are told from failures.
func TestScriptsHaveManners(t *testing.T) {
	want := []string{"backup.sh", "blue-green-deploy.sh", "restore.sh", "rolling-update.sh", "run-smoke-tests.sh"}
	if got := scripts(t); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("scripts are %v, want %v", got, want)
	}
	for _, name := range want {
		text, err := os.ReadFile(name)
		if err != nil || !strings.Contains(string(text), "\nset -euo pipefail\n") {
			t.Errorf("%s: not in strict mode, %v", name, err)
		}
		help := script{name: name, args: []string{"--help"}}.must(t)
		if !strings.Contains(help, name) || !strings.Contains(help, "--dry-run") || strings.Contains(help, "set -euo") {
			t.Errorf("%s --help says\n%s", name, help)
		}
		first := []string{}
		if name == "blue-green-deploy.sh" {
			first = []string{"deploy"}
		}
		if code, out := (script{name: name, args: append(first, "--nonsense")}).run(t); code != 2 || !strings.Contains(out, "--help") {
			t.Errorf("%s --nonsense: exit code %d\n%s", name, code, out)
		}
	}
	for _, misuse := range []script{
		{name: "backup.sh", args: []string{"--to"}},
		{name: "backup.sh"},
		{name: "backup.sh", args: []string{"--to", "x", "--keep", "all"}},
		{name: "backup.sh", args: []string{"--to", "x", "--s3", "bucket"}},
		{name: "restore.sh", args: []string{"set", "--state"}},
		{name: "restore.sh", args: []string{"set", "--state", "--dry-run", "--yes"}},
		{name: "restore.sh", args: []string{"set", "--yes"}},
		{name: "restore.sh", args: []string{"set", "--archive", "--yes"}},
		{name: "rolling-update.sh", args: []string{"--update", "no node"}},
		{name: "rolling-update.sh", args: []string{"--kubernetes", "--image", "x:latest"}},
		{name: "blue-green-deploy.sh", args: []string{"deploy", "--blue", "http://127.0.0.1:1"}},
	} {
		if code, out := misuse.run(t); code != 2 {
			t.Errorf("%s %v: exit code %d, want 2\n%s", misuse.name, misuse.args, code, out)
		}
	}
}

// kubectl is a stand-in that writes down how it is called to change something,
// fails when the call begins as FAIL says, and has five pods, so many of them
// available as AVAILABLE says.
const kubectl = `#!/bin/sh
case "$*" in
*" get "*.spec.replicas*) echo 5; exit ;;
*" get "*.status.availableReplicas*) echo "$AVAILABLE"; exit ;;
*" get "*'containers[?(@.name=="api")].image'*) echo registry.example.com/ecp:v1; exit ;;
*" get "*) exit ;;
esac
echo "$*" >>"$KUBECTL_LOG"
case "$*" in $FAIL*) exit 1 ;; esac
`

// TestRollingUpdateInKubernetes: what kubectl is asked, also when it gets stuck.
// With the real one: deploy/kubernetes.
func TestRollingUpdateInKubernetes(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "kubectl"), []byte(kubectl), 0o700); err != nil {
		t.Fatal(err)
	}
	const (
		set    = "--namespace envoy-control set image statefulset/envoy-control api=registry.example.com/ecp:v2\n"
		status = "--namespace envoy-control rollout status statefulset/envoy-control --timeout=5s\n"
		back   = "--namespace envoy-control set image statefulset/envoy-control api=registry.example.com/ecp:v1\n"
		failed = "--namespace envoy-control rollout status"
	)
	for name, c := range map[string]struct {
		available, fail, image, want string
		code                         int
		more                         []string
	}{
		"through":      {want: set + status},
		"stuck":        {fail: failed, want: set + status + back + status, code: 1},
		"dry":          {more: []string{"--dry-run"}},
		"a pod down":   {available: "4", code: 1},
		"there":        {image: "registry.example.com/ecp:v1", want: status},
		"there, stuck": {image: "registry.example.com/ecp:v1", fail: failed, want: status, code: 1},
		"no container": {more: []string{"--container", "other"}, code: 1},
	} {
		t.Run(name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(log, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			s := script{
				name: "rolling-update.sh",
				args: append([]string{"--kubernetes", "--image", cmp.Or(c.image, "registry.example.com/ecp:v2"), "--timeout", "1"}, c.more...),
				env: []string{
					"PATH=" + dir + ":" + os.Getenv("PATH"), "KUBECTL_LOG=" + log, "FAIL=" + cmp.Or(c.fail, "nothing"), "AVAILABLE=" + cmp.Or(c.available, "5"),
				},
			}
			code, out := s.run(t)
			calls, err := os.ReadFile(log)
			if code != c.code || string(calls) != c.want {
				t.Errorf("exit code %d, calls (%v)\n%s, want\n%s, said\n%s", code, err, calls, c.want, out)
			}
		})
	}
}
